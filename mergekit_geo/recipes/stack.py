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
from mergekit_geo.checkpoints.reshape.columns import columns
from mergekit_geo.checkpoints.reshape.depth import restacked
from mergekit_geo.checkpoints.reshape.frame import Frame
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.stack import Stack
from mergekit_geo.recipes.inputs import Inputs
from mergekit_geo.recipes.resolve import Spot, idle, in_range, over_all, rules_of, spots_of
from mergekit_geo.recipes.stack_fit import check_kinds, check_parted, fit, mismatched
from mergekit_geo.recipes.stack_names import Sources, StackNames

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
        names = StackNames(inputs, anchors)
        layout = names.layout()
        spots = spots_of(inputs, layout, donor)
        layers = names.layers
        made_of = {
            name: names.of_predictor(name, self._takers(spots[name])) or
            self._sources(name, spots[name])
            for name in layout
        }  # fmt: skip
        config = donor.config
        for stack in dict.fromkeys(layer.stack for layer in layers):
            own = [layer for layer in layers if layer.stack == stack]
            taken = [layer.sources for layer in own]
            configs = [config, *(one.config for one in anchors[1:])]
            found = restacked(configs, stack, taken, names.depths[0][stack])
            config = found.config
            check_kinds(found.unlike, anchors)
            check_parted(found.parted, own, donor, names.depths[0][stack])
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
        part = self.inputs.parts[spot.part]
        ranges = part.ranges if spot.layer is not None else (None,) * len(part.taken)
        return [
            (model, in_range(name, spot, span))
            for model, span in zip(self._takers(spot), ranges, strict=True)
        ]

    def _takers(self, spot: Spot) -> list[int]:
        """Positions of the models that a tensor is made of."""
        if spot.part is None:
            return [0]
        models = self.inputs.models
        return [models.index(name) for name in self.inputs.parts[spot.part].taken]

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
