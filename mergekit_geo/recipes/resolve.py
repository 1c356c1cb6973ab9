"""A recipe on real checkpoints: the rule of every tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.errors import RecipeError
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.parameter import Number
from mergekit_geo.recipes.inputs import Inputs, placed
from mergekit_geo.recipes.slices import Spot, is_after_layers, spots
from mergekit_geo.recipes.values import (
    Value,
    at,
    has_gradient,
    idle_filters,
    layer_number,
)

Key = tuple[Number, ...]


@dataclass(frozen=True)
class Resolved:
    """The rules of a merge.

    Attributes:
        rule: The one that most tensors follow.
        rules: Those of the others, by name.
        warnings: Filters that nothing follows.
    """

    rule: Rule
    rules: Mapping[str, Rule]
    warnings: tuple[str, ...]


def resolve(inputs: Inputs, checkpoint: Checkpoint) -> Resolved:
    """The rule of every float tensor of a checkpoint.

    Raises:
        RecipeError: A gradient without layers, a tensor without a value, or one that cannot be
            meant.
    """
    tensors = [name for name, info in checkpoint.tensors.items() if info.is_float]
    parts = [_values(part) for part in (inputs, *inputs.further)]
    _check_gradients(parts[0], tensors, checkpoint)
    if inputs.further:
        _check_one_stack(parts, tensors, checkpoint)
    where = spots(tensors, [part.start for part in (inputs, *inputs.further)])
    keys = {name: _key_at(where[name], parts, name, checkpoint) for name in tensors}
    made: dict[Key, Rule] = {}
    for name, key in keys.items():
        if key not in made:
            made[key] = _rule(inputs, key, name)
    common = Counter(keys.values()).most_common(1)[0][0]
    rules = {name: made[key] for name, key in keys.items() if key != common}
    said = (
        f"{w}: {s}" for part in parts for w, v in part.items() for s in idle_filters(v, tensors)
    )
    return Resolved(made[common], rules, tuple(dict.fromkeys(said)))


def _check_gradients(
    values: Mapping[str, Value], tensors: Sequence[str], checkpoint: Checkpoint
) -> None:
    for where, value in values.items():
        if has_gradient(value) and not any(map(layer_number, tensors)):
            raise RecipeError(
                f"a gradient runs over layers, and {checkpoint.name} has no numbered ones",
                where=where,
                remedy="give one number, or filters on tensor names",
            )


def _check_one_stack(
    parts: Sequence[Mapping[str, Value]], tensors: Sequence[str], checkpoint: Checkpoint
) -> None:
    stacks = sorted({found[0] for name in tensors if (found := layer_number(name))})
    alike = all(part == parts[0] for part in parts)
    if len(stacks) > 1 and (not alike or any(map(has_gradient, parts[0].values()))):
        raise RecipeError(
            f"{checkpoint.name} has several stacks of layers ({', '.join(stacks)}), and the slices "
            "have unlike parameters: which stack they are of cannot be told",
            where="slices",
            remedy="weigh layers by filters on tensor names",
        )


def _values(inputs: Inputs) -> dict[str, Value]:
    """All values of a recipe by where they stand: those of each member first."""
    own = {
        f"{key} of {member}": value
        for key, values in inputs.each.items()
        for member, value in zip(inputs.members, values, strict=True)
    }
    return {**own, **{f"parameters.{key}": value for key, value in inputs.shared.items()}}


def _key_at(
    spot: Spot, parts: Sequence[Mapping[str, Value]], tensor: str, checkpoint: Checkpoint
) -> Key:
    """The numbers of a tensor: of its slice, or outside the layers of the slice next to it.

    Raises:
        RecipeError: Which slice that is cannot be told.
    """
    if spot.part is not None:
        return _key(parts[spot.part], tensor, spot.place)
    first, last = (_key(parts[i], tensor, spot.place) for i in (0, -1))
    return last if first != last and is_after_layers(tensor, checkpoint) else first


def _key(values: Mapping[str, Value], tensor: str, place: float) -> Key:
    found = {where: at(value, tensor, place) for where, value in values.items()}
    for where, value in found.items():
        if value is None:
            raise RecipeError(
                f"no filter matches {tensor}",
                where=where,
                remedy="end the list with an entry that has a value and no filter",
            )
    return tuple(value for value in found.values() if value is not None)


def _rule(inputs: Inputs, key: Key, tensor: str) -> Rule:
    numbers, count = iter(key), len(inputs.members)
    each = {name: tuple(islice(numbers, count)) for name in inputs.each}
    shared = dict(zip(inputs.shared, numbers, strict=True))
    with placed(f"tensor {tensor}"):
        has_base = inputs.base is not None
        return inputs.method.make({**each, **shared}, count, has_base, inputs.seed)
