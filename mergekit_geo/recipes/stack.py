"""Slices that leave out, repeat or move layers: another architecture, made of views of the models.

Every tensor of the output is made of tensors of its slice's models: those of one layer by the
numbers in the slice's ranges, those before the layers of the first slice's models, those after them
of the last's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.layers import depths, layer_number, renumbered
from mergekit_geo.checkpoints.module_names import modules_of
from mergekit_geo.checkpoints.reshape.columns import columns
from mergekit_geo.checkpoints.reshape.depth import restacked
from mergekit_geo.checkpoints.reshape.frame import Frame
from mergekit_geo.errors import RecipeError
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.stack import Stack, StackedLayer
from mergekit_geo.recipes.inputs import Inputs
from mergekit_geo.recipes.resolve import Spot, idle, in_range, over_all, rules_of, spots_of
from mergekit_geo.recipes.stack_fit import Sources, check_kinds, check_parted, fit, mismatched

ALONE = Linear((1.0,), branch="passthrough", name="passthrough")


@dataclass(frozen=True)
class SlicedStack:
    """The stack of a recipe's slices.

    Attributes:
        inputs: Who takes part, with the ranges of every slice.
    """

    inputs: Inputs

    def of(self, anchors: Sequence[Checkpoint], dtype: str | None) -> Stack:
        """Make the stack of models under one model's tensor names.

        Raises:
            RecipeError: The layers do not make a model.
        """
        donor, inputs = anchors[0], self.inputs
        names = _Names(inputs, anchors)
        layout = names.layout()
        spots = spots_of(inputs, layout, donor)
        made_of = {name: self._sources(name, spots[name]) for name in layout}
        layers = names.layers()
        config = donor.config
        for stack in dict.fromkeys(layer.stack for layer in layers):
            own = [layer for layer in layers if layer.stack == stack]
            taken = [layer.sources for layer in own]
            configs = [config, *(one.config for one in anchors[1:])]
            found = restacked(configs, stack, taken, depths(donor.tensors)[stack])
            config = found.config
            check_kinds(found.unlike, anchors)
            check_parted(found.parted, own, donor)
        warnings = tuple(mismatched(config, layers, anchors))
        notes = fit(made_of, layers, anchors, config)
        spots = spots_of(inputs, list(made_of), donor)
        rules, lone = self._rules(made_of, spots, anchors)
        seen = columns(anchors, made_of, Frame(donor, config))
        common = _most(rules, seen.takers, len(seen.views))
        blend = Blend(
            seen.views, common, _dtype(dtype, anchors), {**rules, **lone}, seen.takers,
            tuple(made_of),
        )  # fmt: skip
        named = [name for own in rules for name in (own, *(name for _, name in made_of[own]))]
        unused = idle(inputs, list(dict.fromkeys(named)))
        return Stack(blend, layers, (*unused, *warnings), notes)

    def _sources(self, name: str, spot: Spot) -> Sources:
        """The tensors that one is made of, each with the position of its model."""
        if spot.part is None:
            return [(0, name)]
        part, models = self.inputs.parts[spot.part], self.inputs.models
        ranges = part.ranges if spot.layer is not None else (None,) * len(part.taken)
        return [
            (models.index(model), in_range(name, spot, span))
            for model, span in zip(part.taken, ranges, strict=True)
        ]

    def _rules(
        self,
        made_of: dict[str, Sources],
        spots: Mapping[str, Spot],
        anchors: Sequence[Checkpoint],
    ) -> tuple[dict[str, Rule], dict[str, Rule]]:
        """Rules of float tensors, and of those that only some of their models have: one's alone."""
        lone: dict[str, Rule] = {}
        for name, sources in made_of.items():
            having = [one for one in sources if one[1] in anchors[one[0]].tensors]
            if len(having) < len(sources):
                made_of[name], lone[name] = _first_of(name, having, anchors), ALONE
        merged = {n: spots[n] for n in made_of if n not in lone and _is_float(made_of[n], anchors)}
        return rules_of(self.inputs, merged, anchors[0]), lone


def _first_of(name: str, having: Sources, anchors: Sequence[Checkpoint]) -> Sources:
    found = having[:1] or [(i, name) for i, one in enumerate(anchors) if name in one.tensors][:1]
    assert found, name
    return found


def _is_float(sources: Sources, anchors: Sequence[Checkpoint]) -> bool:
    model, name = sources[0]
    return anchors[model].tensors[name].is_float


@dataclass(frozen=True)
class _Names:
    """Names of the output's tensors, and where its layers are from."""

    inputs: Inputs
    anchors: Sequence[Checkpoint]

    def layout(self) -> list[str]:
        """Names in the order of the first model's, layer by layer where it has layers."""
        stacked = {
            stack: [name for layer in self.layers() if layer.stack == stack for name in
                    self._of_layer(layer)]
            for stack in self._sliced
        }  # fmt: skip
        found: dict[str, None] = {}
        for name in self.anchors[0].tensors:
            layer = layer_number(name)
            found |= dict.fromkeys(stacked.get(layer[0], [name]) if layer else [name])
        return list(found)

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

    @property
    def _sliced(self) -> dict[str, str]:
        """The stack of each module that has slices, and the module."""
        named = list(dict.fromkeys(part.module for part in self.inputs.parts if part.module))
        donor = self.anchors[0]
        modules = modules_of(donor.tensors, named) if named else dict.fromkeys(donor.tensors, "")
        sliced = dict.fromkeys(part.module for part in self.inputs.parts if any(part.ranges))
        return {
            _only_stack([n for n in donor.tensors if modules[n] == module], module, donor): module
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

    @property
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


def _most(rules: Mapping[str, Rule], takers: Mapping[str, tuple[int, ...]], count: int) -> Rule:
    """The commonest rule, over all columns: no tensor follows it, but it has the method's name."""
    common = Counter(rules.values()).most_common(1)[0][0]
    first = next(name for name, rule in rules.items() if rule == common)
    return over_all(common, takers[first], count)


def _dtype(dtype: str | None, anchors: Sequence[Checkpoint]) -> str | None:
    """The first model's one dtype, where models have unlike ones and none is asked for."""
    floats = [
        {info.written or info.dtype for info in anchor.tensors.values() if info.is_float}
        for anchor in anchors
    ]
    unlike = any(found != floats[0] for found in floats)
    return next(iter(floats[0])) if dtype is None and unlike and len(floats[0]) == 1 else dtype
