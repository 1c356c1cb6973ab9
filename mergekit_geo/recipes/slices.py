"""Slices: ranges of layers with models and parameters of their own.

Slices that together are whole models, layer after layer, are a point between the models whose
coefficients change from one range to the next. As in mergekit, a gradient runs over the layers of
its slice; what comes before the layers follows the first slice, what comes after them the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.naming import schema_of
from mergekit_geo.errors import RecipeError
from mergekit_geo.merging.methods import METHODS
from mergekit_geo.recipes.schema import ModelKeys, Recipe, Slice, SourceKeys
from mergekit_geo.recipes.values import layer_number, layered

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.recipes.inputs import Inputs

Range = tuple[int, int]


@dataclass(frozen=True)
class SlicePart:
    """What a recipe says of a range of layers.

    Attributes:
        entries: The models.
        parameters: For all of them.
        base_model: Where task vectors start.
        start: The first layer.
    """

    entries: list[ModelKeys]
    parameters: dict[str, Any]
    base_model: str | None
    start: int = 0


def parts_of(recipe: Recipe) -> list[SlicePart]:
    """The recipe's parts, one per slice; a single one where it lists models.

    Raises:
        RecipeError: Neither models nor slices, or both.
    """
    if (recipe.models is None) == (recipe.slices is None):
        found = "neither" if recipe.models is None else "both"
        raise RecipeError(f"a recipe has models or slices, found {found}", where="recipe")
    if recipe.models is not None:
        return [SlicePart(list(recipe.models), recipe.parameters, recipe.base_model)]
    if not recipe.slices:
        raise RecipeError("no slices", where="slices", remedy="list at least one")
    return [_part(part, recipe) for part in recipe.slices]


def _part(part: Slice, recipe: Recipe) -> SlicePart:
    start = (part.sources[0].layer_range or (0, 0))[0]
    base = part.base_model or recipe.base_model
    return SlicePart(list(part.sources), layered(recipe.parameters, part.parameters), base, start)


def joined(found: Sequence[Inputs]) -> Inputs:
    """The inputs of the first slice, with those of the others.

    Raises:
        RecipeError: They have unlike models that the method cannot leave out, or unlike bases.
    """
    first, *others = found
    if not others:
        return first
    if any(other.base != first.base for other in others):
        raise RecipeError("slices have unlike base models", where="slices", remedy="write one")
    members = tuple(dict.fromkeys(member for each in found for member in each.members))
    unlike = any(set(each.members) != set(members) for each in found)
    if unlike and not first.method.separable:
        others_can = " or ".join(name for name, each in METHODS.items() if each.separable)
        raise RecipeError(
            f"slices have unlike models, and {first.name} has no way to leave one out of a slice",
            where="slices",
            remedy=f"list the same models in every slice, or use {others_can}",
        )
    filled = [_filled(each, members) for each in found]
    warnings = tuple(dict.fromkeys(line for each in found for line in each.warnings))
    return replace(filled[0], warnings=warnings, further=tuple(filled[1:]))


def _filled(inputs: Inputs, members: tuple[str, ...]) -> Inputs:
    """Inputs with all members in one order; the parameters of those that it has not are 0."""
    each = {}
    for key, values in inputs.each.items():
        own = dict(zip(inputs.members, values, strict=True))
        each[key] = tuple(own.get(member, 0.0) for member in members)
    return replace(inputs, members=members, each=each)


def check_ranges(recipe: Recipe, checkpoints: Sequence[Checkpoint], names: Sequence[str]) -> None:
    """Refuse slices that together are not whole models, layer after layer.

    Raises:
        RecipeError: With what would be whole.
    """
    known = dict(zip(names, checkpoints, strict=True))
    layers = {name: layer_count(checkpoint.tensors) for name, checkpoint in known.items()}
    slices = recipe.slices or []
    found = [[_range(source, layers) for source in part.sources] for part in slices]
    for part, ranges in zip(slices, found, strict=True):
        _check_alike(part, ranges, layers, alone=len(slices) == 1)
    ranges = [ranges[0] for ranges in found]
    bounds = [0, *(stop for _, stop in ranges)]
    in_order = all(start == bound for (start, _), bound in zip(ranges, bounds, strict=False))
    total = max((layers[source.model] for part in slices for source in part.sources), default=0)
    empty = any(start >= stop for start, stop in ranges)
    if len(slices) > 1 and (not in_order or empty or bounds[-1] != total):
        said = ", ".join(f"[{start}, {stop}]" for start, stop in ranges)
        raise RecipeError(
            f"the slices take the layers {said} of models of {total}: layers left out, repeated "
            "or moved make another architecture, no point between the models, and nothing to "
            "compare it with",
            where="slices",
            remedy=f"slices that follow one another from 0 to {total} merge whole models",
        )


def _range(source: SourceKeys, layers: Mapping[str, int]) -> Range:
    return source.layer_range or (0, layers[source.model])


def _check_alike(
    part: Slice, ranges: Sequence[Range], layers: Mapping[str, int], *, alone: bool
) -> None:
    """All models of a slice give the same layers; those of the only slice, all layers."""
    first, start = part.sources[0], ranges[0]
    for source, (begin, end) in zip(part.sources, ranges, strict=True):
        total = layers[source.model]
        if alone and (begin, end) != (0, total):
            raise RecipeError(
                f"layer_range [{begin}, {end}] of {source.model} is not the whole, which is "
                f"[0, {total}]: a part of a model is another architecture",
                where="slices",
                remedy=f"write `layer_range: [0, {total}]`; filters and gradients weigh layers",
            )
        if not alone and (begin, end) != start:
            raise RecipeError(
                f"a slice takes the layers [{start[0]}, {start[1]}] of {first.model} and "
                f"[{begin}, {end}] of {source.model}: layers are merged with those at the same "
                "place",
                where="slices",
                remedy="give all models of a slice one layer_range",
            )


def layer_count(tensors: Mapping[str, object]) -> int:
    """Layers of the longest stack; 0 for a model without layers."""
    numbers = [found[1] for name in tensors if (found := layer_number(name))]
    return max(numbers) + 1 if numbers else 0


@dataclass(frozen=True)
class Spot:
    """Position of a tensor in the layers.

    Attributes:
        part: Number of its slice; None outside the layers.
        place: From 0, the first layer of the slice, to 1, the last; 0 outside the layers.
    """

    part: int | None
    place: float


def spots(tensors: Sequence[str], starts: Sequence[int]) -> dict[str, Spot]:
    """Where every tensor stands; an only layer of a slice is at 1.

    Layers are numbered by their own stack, so that an encoder and a decoder both run from 0 to 1.
    As in mergekit, all that is outside the layers is at 0, the final norm and the head too.

    Args:
        tensors: Their names.
        starts: The first layer of each slice.

    Example:
        >>> names = [f"layers.{i}.w" for i in range(3)]
        >>> [(s.part, s.place) for s in spots(names, [0, 1]).values()]
        [(0, 1.0), (1, 0.0), (1, 1.0)]
    """
    layers = {name: layer_number(name) for name in tensors}
    stops: dict[str, int] = {}
    for stack, number in filter(None, layers.values()):
        stops[stack] = max(number + 1, stops.get(stack, 0))
    return {
        name: _spot(layer[1], starts, [*starts[1:], stops[layer[0]]]) if layer else Spot(None, 0.0)
        for name, layer in layers.items()
    }


def _spot(number: int, starts: Sequence[int], ends: Sequence[int]) -> Spot:
    part = next(i for i, end in enumerate(ends) if number < end)
    length = ends[part] - starts[part]
    return Spot(part, (number - starts[part]) / (length - 1) if length > 1 else 1.0)


def is_after_layers(name: str, checkpoint: Checkpoint) -> bool:
    """Whether a tensor outside the layers comes after them, as transformers builds the model.

    Raises:
        RecipeError: Nothing tells.
    """
    schema = schema_of(checkpoint.config)
    order = list(schema.expected)
    layers = [i for i, own in enumerate(order) if layer_number(own)]
    own = schema.canonical(name)
    if own not in order or not layers:
        raise RecipeError(
            f"the slices have unlike parameters for {name}, and whether it comes before the layers "
            "or after them cannot be told of this architecture",
            where="slices",
            remedy=f"give the slices one value for it: a list that begins with `filter: {name}`",
        )
    return order.index(own) > layers[0]
