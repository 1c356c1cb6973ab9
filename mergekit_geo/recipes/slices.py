"""Slices: ranges of layers with models and parameters of their own.

Slices that together are whole models, layer after layer, are a point between the models whose
coefficients change from one range to the next; others make another architecture, a stack. As in
mergekit, a gradient runs over the layers of its slice; what comes before the layers follows the
first slice, what comes after them the last.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.layers import depths, layer_number
from mergekit_geo.checkpoints.module_names import DEFAULT, modules_of, nearest_module
from mergekit_geo.checkpoints.naming import schema_of
from mergekit_geo.checkpoints.parts import predictors
from mergekit_geo.errors import RecipeError
from mergekit_geo.recipes.schema import ModelKeys, ModuleKeys, Recipe, Slice
from mergekit_geo.recipes.values import layered

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.recipes.inputs import Inputs

PLACES = (
    (re.compile(r"head|score|classifier|embed_out"), True),
    (re.compile(r"embed|wte|wpe"), False),
    (re.compile(r"norm|ln_f|pooler"), True),
)
"""Parts of the names of what is outside the layers, and whether it comes after them.

For architectures that transformers does not know; the first match counts.
"""

Range = tuple[int, int]


@dataclass(frozen=True)
class SlicePart:
    """What a recipe says of a range of layers.

    Attributes:
        entries: The models.
        parameters: For all of them.
        base_model: Where task vectors start.
        module: The part of the architecture that it is about; empty for the whole.
        is_slice: Whether it is one, and no list of models.
    """

    entries: list[ModelKeys]
    parameters: dict[str, Any]
    base_model: str | None
    module: str = ""
    is_slice: bool = False


def parts_of(recipe: Recipe) -> list[SlicePart]:
    """The recipe's parts, one per slice, in the order of the layers; a single one for `models`.

    Raises:
        RecipeError: Neither models nor slices, or both.
    """
    whole = SlicePart([], recipe.parameters, recipe.base_model)
    if recipe.modules is None:
        return _parts(recipe, whole, "recipe")
    return [
        part
        for name, module in recipe.modules.items()
        for part in _parts(module, _within(whole, module.parameters, name), f"modules.{name}")
    ]


def _within(outer: SlicePart, parameters: dict[str, Any], module: str) -> SlicePart:
    return replace(outer, parameters=layered(outer.parameters, parameters), module=module)


def _parts(said: Recipe | ModuleKeys, outer: SlicePart, where: str) -> list[SlicePart]:
    if (said.models is None) == (said.slices is None):
        found = "none of them" if said.models is None else "both"
        expected = "models, slices or modules" if where == "recipe" else "models or slices"
        raise RecipeError(f"a {where.partition('.')[0].removesuffix('s')} has {expected}, "
                          f"found {found}", where=where)  # fmt: skip
    if said.models is not None:
        return [replace(outer, entries=list(said.models))]
    if not said.slices:
        raise RecipeError("no slices", where="slices", remedy="list at least one")
    return [_part(part, outer) for part in said.slices]


def _part(part: Slice, outer: SlicePart) -> SlicePart:
    return replace(
        outer,
        entries=list(part.sources),
        parameters=layered(outer.parameters, part.parameters),
        base_model=part.base_model or outer.base_model,
        is_slice=True,
    )


def joined(found: Sequence[Inputs], donor: str | None) -> Inputs:
    """The inputs of the first slice, with those of the others.

    Args:
        found: Of each slice.
        donor: The recipe's base, whose configuration and tokenizer the output has.
    """
    first, *others = found
    if not others:
        return first
    warnings = tuple(dict.fromkeys(line for each in found for line in each.warnings))
    further = tuple(_ordered(other, first) for other in others)
    return replace(first, warnings=warnings, further=further, donor=donor)


def _ordered(inputs: Inputs, first: Inputs) -> Inputs:
    """Inputs in the order of the first slice's models, where they are the same ones, each once."""
    alike = inputs.base == first.base and sorted(inputs.members) == sorted(first.members)
    if not alike or len(set(first.members)) < len(first.members):
        return inputs
    order = [inputs.members.index(member) for member in first.members]
    of_base = len(inputs.taken) - len(inputs.members)
    ranges = [*inputs.ranges[:of_base], *(inputs.ranges[of_base + i] for i in order)]
    return replace(
        inputs,
        members=first.members,
        each={key: tuple(values[i] for i in order) for key, values in inputs.each.items()},
        ranges=tuple(ranges),
    )


def ranged(inputs: Inputs, checkpoints: Sequence[Checkpoint]) -> Inputs:
    """Inputs that say of every slice and model which layers are taken.

    Raises:
        RecipeError: A range beyond a model, ranges of unlike length, or no such module.
    """
    known = dict(zip(inputs.models, checkpoints, strict=True))
    named = _named(inputs)
    for name in named:
        _check_module(name, checkpoints[0])
    depth = {
        (name, module): _depth(one.tensors, named, module)
        for name, one in known.items()
        for module in named or [""]
    }
    modules = [part.module for part in inputs.parts]
    parts = [
        _with_ranges(part, depth) if any(part.ranges) or modules.count(part.module) > 1 else part
        for part in inputs.parts
    ]
    return replace(parts[0], further=tuple(parts[1:]))


def _named(inputs: Inputs) -> list[str]:
    return list(dict.fromkeys(part.module for part in inputs.parts if part.module))


def _check_module(module: str, checkpoint: Checkpoint) -> None:
    if module != DEFAULT and module not in modules_of(checkpoint.tensors, [module]).values():
        raise RecipeError(
            f"{checkpoint.name} has no module {module}",
            where=f"modules.{module}",
            remedy=nearest_module(module, checkpoint.tensors),
        )


def _depth(tensors: Mapping[str, object], named: Collection[str], module: str) -> int:
    """Layers of the longest stack of a module; 0 where it has none."""
    taken = modules_of(tensors, named) if named else dict.fromkeys(tensors, "")
    own = {name for name in tensors if taken[name] == module}
    return max(depths(own - predictors(own)).values(), default=0)


def _with_ranges(part: Inputs, depth: Mapping[tuple[str, str], int]) -> Inputs:
    found = []
    for name, said in zip(part.taken, part.ranges, strict=True):
        total = depth[name, part.module]
        span = said or (0, total)
        if span[1] > total:
            raise RecipeError(
                f"layer_range [{span[0]}, {span[1]}] goes beyond {name}, which has "
                f"{total} layer{'s' * (total != 1)}",
                where="slices",
                remedy=f"the upper bound is exclusive: [0, {total}] takes all of them",
            )
        found.append(span)
    for name, span in zip(part.taken, found, strict=True):
        first, mine, theirs = found[0], found[0][1] - found[0][0], span[1] - span[0]
        if mine != theirs:
            raise RecipeError(
                f"a slice takes the layers [{first[0]}, {first[1]}] of {part.taken[0]} and "
                f"[{span[0]}, {span[1]}] of {name}: {mine} layers cannot be merged with {theirs}",
                where="slices",
                remedy="give all models of a slice ranges of one length",
            )
    return replace(part, ranges=tuple(found))


def is_stack(inputs: Inputs, checkpoints: Sequence[Checkpoint]) -> bool:
    """Whether slices leave out, repeat or move layers: then the output is no point between models.

    Args:
        inputs: With the ranges of every model.
        checkpoints: The models.
    """
    known, named = dict(zip(inputs.models, checkpoints, strict=True)), _named(inputs)
    for module in named or [""]:
        parts = [part for part in inputs.parts if part.module == module]
        if not any(parts[0].ranges):
            continue
        models = {name for part in parts for name in part.taken}
        totals = {_depth(known[name].tensors, named, module) for name in models}
        bounds = [0, *(part.ranges[0][1] for part in parts if part.ranges[0])]
        starts = [part.ranges[0][0] for part in parts if part.ranges[0]]
        moved = any(set(part.ranges) != {part.ranges[0]} for part in parts)
        if moved or starts != bounds[:-1] or totals != {bounds[-1]}:
            return True
    return False


def is_after_layers(name: str, stack: str, checkpoint: Checkpoint) -> bool:
    """Whether a tensor outside the layers comes after them, as transformers builds the model.

    Args:
        name: Of the tensor.
        stack: The layers, as tensors of them are called.
        checkpoint: Of this architecture.

    Raises:
        RecipeError: Nothing tells.
    """
    schema = schema_of(checkpoint.config)
    order = list(schema.expected)
    own = schema.canonical(name)
    sample = next(one for one in checkpoint.tensors if _stack(one) == stack)
    found = layer_number(schema.canonical(sample))
    layers = [i for i, one in enumerate(order) if found and _stack(one) == found[0]]
    if own in order and layers:
        return order.index(own) > layers[0]
    told = [after for pattern, after in PLACES if pattern.search(name)]
    if not told:
        raise RecipeError(
            f"the slices are not alike for {name}, and whether it comes before the layers or "
            "after them cannot be told of this architecture",
            where="slices",
            remedy="let the first and the last slice have the same models and one value for it: a "
            f"list that begins with `filter: {name}`",
        )
    return told[0]


def _stack(name: str) -> str | None:
    found = layer_number(name)
    return found[0] if found else None
