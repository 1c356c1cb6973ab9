"""A recipe on real checkpoints: the rule of every tensor, and the models that it is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.layers import depths, layer_number, renumbered
from mergekit_geo.checkpoints.module_names import modules_of
from mergekit_geo.checkpoints.parts import predictors
from mergekit_geo.errors import RecipeError
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.parameter import Number
from mergekit_geo.recipes.inputs import Inputs, placed
from mergekit_geo.recipes.slices import Range, is_after_layers
from mergekit_geo.recipes.values import Value, at, has_gradient, idle_filters

Values = Mapping[str, Value]
"""Of a slice, by where they stand: those of each model first."""


@dataclass(frozen=True)
class Spot:
    """Position of a tensor in a recipe.

    Attributes:
        part: Number of the slice that it follows; None where no module of the recipe has it.
        place: From 0, the first layer of the slice, to 1, the last; 0 outside the layers.
        layer: Its layer's, from the first of the slice; None outside the layers.
    """

    part: int | None
    place: float = 0.0
    layer: int | None = None


@dataclass(frozen=True)
class Key:
    """All that a tensor's rule depends on: tensors of one key share it."""

    taken: tuple[str, ...]
    method: str
    numbers: tuple[Number, ...]


@dataclass(frozen=True)
class Resolved:
    """The rules of a merge.

    Attributes:
        rule: The one that most tensors follow, over all models.
        rules: Those of the others, by name.
        takers: Positions of the models that a tensor is made of, where these are not all.
        warnings: Filters that nothing follows, and what no module has.
    """

    rule: Rule
    rules: Mapping[str, Rule]
    takers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def resolve(inputs: Inputs, checkpoint: Checkpoint) -> Resolved:
    """The rule of every float tensor of a checkpoint.

    Raises:
        RecipeError: A gradient without layers, a tensor without a value, or one that cannot be
            meant.
    """
    names = list(checkpoint.tensors)
    spots = spots_of(inputs, names, checkpoint)
    floats = [name for name, info in checkpoint.tensors.items() if info.is_float]
    rules = rules_of(inputs, {name: spots[name] for name in floats}, checkpoint)
    order = {name: i for i, name in enumerate(inputs.models)}
    takers = {name: _takers(spot, inputs, order) for name, spot in spots.items()}
    every = tuple(range(len(order)))
    apart = {name: taken for name, taken in takers.items() if taken != every}
    source = checkpoint.within.name if checkpoint.within else inputs.models[0]
    warnings = (*idle(inputs, floats), *_left_over(spots, source))
    common = Counter(rules.values()).most_common(1)[0][0]
    if all(takers[name] == every for name, rule in rules.items() if rule == common):
        others = {name: rule for name, rule in rules.items() if rule != common}
        return Resolved(common, others, apart, warnings)
    first = next(takers[name] for name, rule in rules.items() if rule == common)
    return Resolved(over_all(common, first, len(every)), rules, apart, warnings)


def over_all(rule: Rule, taken: Sequence[int], count: int) -> Rule:
    """A rule over all models that weighs some of them as another does."""
    weights = rule.weights if isinstance(rule, Linear) else rule.convex
    own = dict(zip(taken, weights, strict=True))
    spread = tuple(own.get(i, 0.0) for i in range(count))
    if isinstance(rule, Linear):
        return replace(rule, weights=spread)
    return Linear(spread, name=rule.name)


def rules_of(inputs: Inputs, spots: Mapping[str, Spot], checkpoint: Checkpoint) -> dict[str, Rule]:
    """The rule of every float tensor, over the models of its slice.

    Args:
        inputs: Who takes part.
        spots: Where the float tensors stand.
        checkpoint: Named in messages.
    """
    values = [_values(part) for part in inputs.parts]
    _check_gradients(values, spots, checkpoint)
    made: dict[Key, Rule] = {}
    found: dict[str, Rule] = {}
    for name, spot in spots.items():
        if spot.part is None:
            found[name] = Linear((1.0,), branch="passthrough")
            continue
        part = inputs.parts[spot.part]
        names = _asked(part, name, spot)
        key = Key(part.taken, part.name, _numbers(values[spot.part], names, spot.place))
        if key not in made:
            made[key] = _rule(part, key.numbers, name)
        found[name] = made[key]
    return found


def in_range(name: str, spot: Spot, span: Range | None) -> str:
    """What a model calls a tensor of the output, of the layers that are taken of it."""
    return name if span is None or spot.layer is None else renumbered(name, span[0] + spot.layer)


def _asked(part: Inputs, name: str, spot: Spot) -> list[str]:
    """What filters are matched with, value by value: as in mergekit, names in the models.

    Those of the method's own parameters are matched with the names of the output.
    """
    spans = part.ranges[len(part.taken) - len(part.members) :] or (None,) * len(part.members)
    theirs = [in_range(name, spot, span) for span in spans]
    return [*theirs * len(part.each), *[name] * len(part.shared)]


def spots_of(inputs: Inputs, names: Sequence[str], checkpoint: Checkpoint) -> dict[str, Spot]:
    """Where every tensor of an output stands; an only layer of a slice is at 1.

    Layers are numbered by their own stack, so that an encoder and a decoder both run from 0 to 1.
    As in mergekit, all that is outside the layers is at 0, the final norm and the head too, and so
    are the layers of multi-token prediction, which follow the last slice.

    Args:
        inputs: Who takes part, with the ranges of every slice.
        names: Of the output.
        checkpoint: Of its architecture.
    """
    named = list(dict.fromkeys(part.module for part in inputs.parts if part.module))
    modules = modules_of(names, named) if named else dict.fromkeys(names, "")
    found: dict[str, Spot] = dict.fromkeys(names, Spot(None))
    for module in named or [""]:
        own = [name for name in names if modules[name] == module]
        numbers = [i for i, part in enumerate(inputs.parts) if part.module == module]
        found |= _spots_of_module(inputs, numbers, own, checkpoint)
    return found


def _spots_of_module(
    inputs: Inputs, numbers: Sequence[int], names: Sequence[str], checkpoint: Checkpoint
) -> dict[str, Spot]:
    outside = predictors(names)
    parts, stacks = [inputs.parts[i] for i in numbers], depths(n for n in names if n not in outside)
    if len(parts) == 1:
        lengths = stacks
        layers = {name: None if name in outside else layer_number(name) for name in names}
        return {
            name: _in_slice(numbers[0], layer[1], lengths[layer[0]]) if layer else Spot(numbers[0])
            for name, layer in layers.items()
        }
    values = [_values(part) for part in parts]
    _check_one_stack(parts, values, stacks, checkpoint)
    spans = [(span or (0, 0)) for part in parts for span in part.ranges[:1]]
    bounds = [0, *accumulate(stop - start for start, stop in spans)]
    ends = _Ends(parts, values, next(iter(stacks), ""), checkpoint)
    last = Spot(numbers[-1])
    return {
        name: last if name in outside else _spot(name, numbers, bounds, ends.is_last)
        for name in names
    }


def _spot(
    name: str, numbers: Sequence[int], bounds: Sequence[int], is_last: Callable[[str], bool]
) -> Spot:
    layer = layer_number(name)
    if layer is None:
        return Spot(numbers[-1] if is_last(name) else numbers[0])
    own = next((i for i, end in enumerate(bounds[1:]) if layer[1] < end), len(numbers) - 1)
    return _in_slice(numbers[own], layer[1] - bounds[own], bounds[own + 1] - bounds[own])


def _in_slice(part: int, layer: int, length: int) -> Spot:
    return Spot(part, layer / (length - 1) if length > 1 else 1.0, layer)


@dataclass(frozen=True)
class _Ends:
    """Tells which of the first and the last slice a tensor outside the layers follows."""

    parts: Sequence[Inputs]
    values: Sequence[Values]
    stack: str
    checkpoint: Checkpoint

    def is_last(self, name: str) -> bool:
        """Whether it follows the last; where the two are alike for it, nobody asks."""
        first, last = self.parts[0], self.parts[-1]
        alike = (first.taken, first.name) == (last.taken, last.name)
        found = {_numbers(one, [name] * len(one), 0.0) for one in (self.values[0], self.values[-1])}
        if alike and len(found) == 1:
            return False
        return is_after_layers(name, self.stack, self.checkpoint)


def _takers(spot: Spot, inputs: Inputs, order: Mapping[str, int]) -> tuple[int, ...]:
    if spot.part is None:
        return (0,)
    return tuple(order[name] for name in inputs.parts[spot.part].taken)


def idle(inputs: Inputs, tensors: Sequence[str]) -> tuple[str, ...]:
    """A line for each filter that no tensor follows."""
    values = [_values(part) for part in inputs.parts]
    said = (
        f"{w}: {s}" for part in values for w, v in part.items() for s in idle_filters(v, tensors)
    )
    return tuple(dict.fromkeys(said))


def _left_over(spots: Mapping[str, Spot], source: str) -> list[str]:
    left = [name for name, spot in spots.items() if spot.part is None]
    if not left:
        return []
    return [f"{len(left)} tensors ({left[0]}) are of no module: they are those of {source}"]


def _check_gradients(
    values: Sequence[Values], tensors: Mapping[str, Spot], checkpoint: Checkpoint
) -> None:
    for where, value in ((w, v) for part in values for w, v in part.items()):
        if has_gradient(value) and not any(map(layer_number, tensors)):
            raise RecipeError(
                f"a gradient runs over layers, and {checkpoint.name} has no numbered ones",
                where=where,
                remedy="give one number, or filters on tensor names",
            )


def _check_one_stack(
    parts: Sequence[Inputs],
    values: Sequence[Values],
    stacks: Mapping[str, int],
    checkpoint: Checkpoint,
) -> None:
    alike = all(v == values[0] for v in values) and len({part.taken for part in parts}) == 1
    if len(stacks) > 1 and (not alike or any(map(has_gradient, values[0].values()))):
        raise RecipeError(
            f"{checkpoint.name} has several stacks of layers ({', '.join(stacks)}), and the slices "
            "are not alike: which stack they are of cannot be told",
            where="slices",
            remedy="write `modules: {NAME: {slices: ...}}`, or weigh layers by filters on tensor "
            "names",
        )


def _values(inputs: Inputs) -> dict[str, Value]:
    """All values of a slice by where they stand: those of each member first."""
    own = {
        f"{key} of {member}" + (f" [{i}]" if inputs.members.count(member) > 1 else ""): value
        for key, values in inputs.each.items()
        for i, (member, value) in enumerate(zip(inputs.members, values, strict=True))
    }
    return {**own, **{f"parameters.{key}": value for key, value in inputs.shared.items()}}


def _numbers(values: Values, names: Sequence[str], place: float) -> tuple[Number, ...]:
    return tuple(
        _number(value, name, place, where)
        for (where, value), name in zip(values.items(), names, strict=True)
    )


def _number(value: Value, name: str, place: float, where: str) -> Number:
    found = at(value, name, place)
    if found is None:
        raise RecipeError(
            f"no filter matches {name}",
            where=where,
            remedy="end the list with an entry that has a value and no filter",
        )
    return found


def _rule(inputs: Inputs, key: Sequence[Number], tensor: str) -> Rule:
    numbers, count = iter(key), len(inputs.members)
    each = {name: tuple(islice(numbers, count)) for name in inputs.each}
    shared = dict(zip(inputs.shared, numbers, strict=True))
    with placed(f"tensor {tensor}"):
        has_base = inputs.base is not None
        return inputs.method.make({**each, **shared}, count, has_base, inputs.seed)
