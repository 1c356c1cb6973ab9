"""A recipe on real checkpoints: the rule of every tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.errors import GeoError, RecipeError
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.recipes.cast import Cast, ranges
from mergekit_geo.recipes.methods import Said
from mergekit_geo.recipes.schema import Recipe
from mergekit_geo.recipes.values import (
    Number,
    Value,
    at,
    has_gradient,
    idle_filters,
    layer_number,
    places,
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


def resolve(cast: Cast, checkpoint: Checkpoint) -> Resolved:
    """The rule of every float tensor of a checkpoint.

    Raises:
        RecipeError: A gradient without layers, a tensor without a value, or one that cannot be
            meant.
    """
    tensors = [name for name, info in checkpoint.tensors.items() if info.is_float]
    values = _values(cast)
    place = places(tensors)
    for where, value in values.items():
        if has_gradient(value) and not place:
            raise RecipeError(
                f"a gradient runs over layers, and {checkpoint.name} has no numbered ones",
                where=where,
                remedy="give one number, or filters on tensor names",
            )
    keys = {name: _key(values, name, place.get(name, 0.0)) for name in tensors}
    made: dict[Key, Rule] = {}
    for name, key in keys.items():
        if key not in made:
            made[key] = _rule(cast, key, name)
    common = Counter(keys.values()).most_common(1)[0][0]
    rules = {name: made[key] for name, key in keys.items() if key != common}
    warnings = [f"{w}: {line}" for w, v in values.items() for line in idle_filters(v, tensors)]
    return Resolved(made[common], rules, tuple(warnings))


def _values(cast: Cast) -> dict[str, Value]:
    """All values of a recipe by where they stand: the weights first."""
    weights = tuple(1.0 if weight is None else weight for weight in cast.weights)
    own = {
        f"{key} of {member}": value
        for key, values in {"weight": weights, **cast.each}.items()
        for member, value in zip(cast.members, values, strict=True)
    }
    return {**own, **{f"parameters.{key}": value for key, value in cast.shared.items()}}


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


def _rule(cast: Cast, key: Key, tensor: str) -> Rule:
    numbers, count = iter(key), len(cast.members)
    weights, *each = (
        tuple(float(number) for number in islice(numbers, count)) for _ in ("weight", *cast.each)
    )
    shared = dict(zip(cast.shared, numbers, strict=True))
    said = Said(
        weights, dict(zip(cast.each, each, strict=True)), shared, cast.base is not None, cast.seed
    )
    try:
        return cast.method.make(said)
    except GeoError as error:
        raise RecipeError(error.message, where=f"tensor {tensor}", remedy=error.remedy) from error


def check_ranges(recipe: Recipe, checkpoints: Sequence[Checkpoint], names: Sequence[str]) -> None:
    """Refuse layer ranges that are not the whole model.

    Raises:
        RecipeError: With the range that is the whole.
    """
    known = dict(zip(names, checkpoints, strict=True))
    for model, (start, stop) in ranges(recipe):
        layers = layer_count(known[model].tensors)
        if (start, stop) != (0, layers):
            raise RecipeError(
                f"layer_range [{start}, {stop}] of {model} is not the whole, which is "
                f"[0, {layers}]: a part of a model is another architecture",
                where="slices",
                remedy=f"write `layer_range: [0, {layers}]`; filters and gradients weigh layers",
            )


def layer_count(tensors: Mapping[str, object]) -> int:
    """Layers of the longest stack; 0 for a model without layers."""
    numbers = [found[1] for name in tensors if (found := layer_number(name))]
    return max(numbers) + 1 if numbers else 0
