"""Names of the tensors of a stack, and the layers and tensors that each is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.layers import depths, layer_number, renumbered
from mergekit_geo.checkpoints.module_names import modules_of
from mergekit_geo.checkpoints.parts import predictors
from mergekit_geo.errors import RecipeError
from mergekit_geo.merging.stack import StackedLayer
from mergekit_geo.recipes.inputs import Inputs

Sources = list[tuple[int, str]]
"""Tensors that one is made of, each with the position of its model."""


@dataclass(frozen=True)
class StackNames:
    """Names of the output's tensors, and where its layers are from.

    Attributes:
        inputs: Who takes part, with the ranges of every slice.
        anchors: The models.
    """

    inputs: Inputs
    anchors: Sequence[Checkpoint]

    def layout(self) -> list[str]:
        """Names in the order of the first model's, layer by layer where it has layers."""
        stacked = {
            stack: [name for layer in self.layers if layer.stack == stack for name in
                    self._of_layer(layer)]
            for stack in self._sliced
        }  # fmt: skip
        found: dict[str, None] = {}
        for name in self.anchors[0].tensors:
            layer = None if name in self._predictors[0] else layer_number(name)
            found |= dict.fromkeys(stacked.get(layer[0], [name]) if layer else [])
            if layer is None:
                found[self._behind(name, 0, None)] = None
        return list(found)

    def of_predictor(self, name: str, takers: Sequence[int]) -> Sources:
        """What a tensor of multi-token prediction is made of; nothing for any other.

        Those that are numbered on from the layers come behind the output's.

        Args:
            name: Of the output.
            takers: Positions of the models.
        """
        own = self._moved.get(name)
        return [(i, self._behind(own, 0, i)) for i in takers] if own is not None else []

    @cached_property
    def _moved(self) -> dict[str, str]:
        """The first model's tensors of multi-token prediction, by their names in the output."""
        return {self._behind(name, 0, None): name for name in self._predictors[0]}

    def _behind(self, name: str, model: int, other: int | None) -> str:
        """A model's tensor as it is called in another, or in the output.

        Other numbers have only those that are numbered on from layers that are stacked.
        """
        layer = layer_number(name) if name in self._predictors[model] else None
        if layer is None or layer[0] not in self._sliced:
            return name
        mine = self.depths[model][layer[0]]
        theirs = (self.depths[other][layer[0]] if other is not None
                  else sum(one.stack == layer[0] for one in self.layers))  # fmt: skip
        return renumbered(name, layer[1] - mine + theirs)

    @cached_property
    def _predictors(self) -> list[frozenset[str]]:
        """Tensors of multi-token prediction, of each model."""
        return [predictors(anchor.tensors) for anchor in self.anchors]

    @cached_property
    def depths(self) -> list[dict[str, int]]:
        """Layers of each stack, of each model."""
        return [
            depths(set(anchor.tensors) - apart)
            for anchor, apart in zip(self.anchors, self._predictors, strict=True)
        ]

    @cached_property
    def layers(self) -> tuple[StackedLayer, ...]:
        """Every layer of a module that slices make."""
        found: list[StackedLayer] = []
        for stack, module in self._sliced.items():
            parts = [part for part in self.inputs.parts if part.module == module]
            places = [(part, k) for part in parts for k in range(_length(part))]
            found += [
                StackedLayer(stack, number, self._of_part(part, k))
                for number, (part, k) in enumerate(places)
            ]
        return tuple(found)

    @cached_property
    def _sliced(self) -> dict[str, str]:
        """The stack of each module that has slices, and the module."""
        named = list(dict.fromkeys(part.module for part in self.inputs.parts if part.module))
        donor = self.anchors[0]
        modules = modules_of(donor.tensors, named) if named else dict.fromkeys(donor.tensors, "")
        sliced = dict.fromkeys(part.module for part in self.inputs.parts if any(part.ranges))
        return {
            _only_stack(
                [n for n in donor.tensors if modules[n] == module and n not in self._predictors[0]],
                module,
                donor,
            ): module
            for module in sliced
        }

    def _of_part(self, part: Inputs, k: int) -> tuple[tuple[int, int], ...]:
        order = self.inputs.models
        spans = zip(part.taken, part.ranges, strict=True)
        return tuple((order.index(name), span[0] + k) for name, span in spans if span)

    def _of_layer(self, layer: StackedLayer) -> list[str]:
        """Names of a layer's tensors in the output; all models of its slice have the same."""
        (first, number), *others = layer.sources
        mine = self._held[first].get((layer.stack, number), [])
        for model, other in others:
            theirs = self._held[model].get((layer.stack, other), [])
            lacking = {renumbered(n, 0) for n in mine} ^ {renumbered(n, 0) for n in theirs}
            if lacking and not _is_positional(lacking, layer):
                a, b = self.anchors[first].name, self.anchors[model].name
                raise RecipeError(
                    f"layer {number} of {a} and layer {other} of {b} are not of one kind: "
                    f"{renumbered(min(lacking), number)} is in one of them alone",
                    where="slices",
                    remedy="give the slice layers of one kind",
                )
        return [renumbered(name, layer.number) for name in mine]

    @cached_property
    def _held(self) -> list[dict[tuple[str, int], list[str]]]:
        """Names of tensors by layer, of each model."""
        found: list[dict[tuple[str, int], list[str]]] = [{} for _ in self.anchors]
        for held, anchor in zip(found, self.anchors, strict=True):
            for name in anchor.tensors:
                if place := layer_number(name):
                    held.setdefault(place, []).append(name)
        return found


def _is_positional(lacking: set[str], layer: StackedLayer) -> bool:
    """Whether a difference is what first layers alone have, as T5's relative positions."""
    first = any(number == 0 for _, number in layer.sources)
    return first and all("relative_attention_bias" in name for name in lacking)


def _length(part: Inputs) -> int:
    start, stop = part.ranges[0] or (0, 0)
    return stop - start


def _only_stack(names: Sequence[str], module: str, donor: Checkpoint) -> str:
    stacks = list(depths(names))
    if len(stacks) != 1:
        said = f"several stacks of layers ({', '.join(stacks)})" if stacks else "no numbered layers"
        raise RecipeError(
            f"{donor.name} has {said}{' in ' + module if module else ''}, and slices are of one",
            where="slices",
            remedy="say which by `modules: {encoder: {slices: ...}, decoder: {models: ...}}`",
        )
    return stacks[0]
