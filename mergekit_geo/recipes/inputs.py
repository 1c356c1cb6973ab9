"""Who takes part in a recipe: base and members, each with its parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from mergekit_geo.errors import GeoError, RecipeError
from mergekit_geo.merging.method import BaseUse, Method
from mergekit_geo.merging.methods import METHODS, method_named
from mergekit_geo.merging.parameter import Parameter
from mergekit_geo.printable import nearest_of
from mergekit_geo.recipes.schema import ModelKeys, Recipe, SourceKeys
from mergekit_geo.recipes.slices import Range, SlicePart, joined, parts_of
from mergekit_geo.recipes.values import Value, in_turn, numbers_in, parse_value

EVERYWHERE = ("int8_mask",)
"""Parameters of mergekit's that save memory there, and change nothing here."""


@dataclass(frozen=True)
class Inputs:
    """Who takes part.

    Attributes:
        name: Of the method.
        base: Where task vectors start, None where there are none.
        members: The others, in the order of the rule.
        each: Parameters of each member, by name.
        shared: Parameters of the method.
        seed: Of random masks.
        warnings: What is in the recipe and changes nothing.
        ranges: Of each of `taken`, first layer and the one after the last; None is all of them.
        module: The part of the architecture that this is about; empty for the whole.
        further: The same of later slices, where a recipe has several.
        donor: Which of their models comes first, if it is one of them.
    """

    name: str
    base: str | None
    members: tuple[str, ...]
    each: Mapping[str, tuple[Value, ...]]
    shared: Mapping[str, Value]
    seed: int
    warnings: tuple[str, ...]
    ranges: tuple[Range | None, ...] = ()
    module: str = ""
    further: tuple[Inputs, ...] = ()
    donor: str | None = None

    @property
    def method(self) -> Method:
        """What the method takes."""
        return METHODS[self.name]

    @property
    def taken(self) -> tuple[str, ...]:
        """What the rule is over: the base if there is one, then the members."""
        return self.members if self.base is None else (self.base, *self.members)

    @property
    def parts(self) -> tuple[Inputs, ...]:
        """Every slice, in the order of the layers."""
        return (self, *self.further)

    @property
    def models(self) -> tuple[str, ...]:
        """The anchors: all that some slice takes, each once."""
        found = dict.fromkeys(name for part in self.parts for name in part.taken)
        return tuple(sorted(found, key=lambda name: name != self.donor))


@contextmanager
def placed(where: str) -> Iterator[None]:
    """Errors in here are errors of a recipe, at this place in it."""
    try:
        yield
    except GeoError as error:
        raise RecipeError(error.message, where=where, remedy=error.remedy) from error


def inputs_of(recipe: Recipe) -> Inputs:
    """Who takes part in a recipe, checked against what its method takes.

    Raises:
        RecipeError: What the method needs is missing, or is not valid.
    """
    with placed("merge_method"):
        method = method_named(recipe.merge_method)
    found = [_of_part(method, recipe.seed or 0, part) for part in parts_of(recipe)]
    whole, base = joined(found, recipe.base_model), recipe.base_model
    if base is None or base in whole.models or any(base in line for line in whole.warnings):
        return whole
    told = f"base_model {base} is in no slice, and has no part in {whole.name}"
    return replace(whole, warnings=(*whole.warnings, told))


def _of_part(method: Method, seed: int, part: SlicePart) -> Inputs:
    """Who takes part in a range of layers."""
    name = method.name
    if (
        part.is_slice
        and len(part.entries) == 1
        and (method.base is BaseUse.END or method.least > 1)
    ):
        return _alone(part.entries[0].model, part)
    twice = _twice(part.entries)
    part = replace(part, entries=_once(part.entries))
    base, members = _parted(method, part)
    warnings = [*twice, *(f"{base} is the base of {name}: its parameters change nothing"
                for e in part.entries if e.model == base and e.parameters)]  # fmt: skip
    if _is_ignored(method, part.base_model, part.entries):
        warnings.append(f"base_model {part.base_model} has no part in {name}: to merge it as one "
                        "more model, as mergekit does, list it under models")  # fmt: skip
    if base is not None and part.entries and not members and method.base is BaseUse.REQUIRED:
        _shared(method, part.parameters)
        return _base_alone(name, base, part, warnings)
    with placed("models"):
        method.check_count(len(members))
    for entry in members:
        _said("weight", entry, part.parameters)  # a value, even where it changes nothing
    each = {
        key: _each(method, parameter, members, part.parameters)
        for key, parameter in method.each.items()
    }
    shared = _shared(method, part.parameters)
    models = tuple(entry.model for entry in members)
    ranges = _ranges(base, members, part.entries)
    return Inputs(name, base, models, each, shared, seed, tuple(warnings), ranges, part.module)


def _ranges(
    base: str | None, members: list[ModelKeys], entries: list[ModelKeys]
) -> tuple[Range | None, ...]:
    """Layers that are taken of base and members; those of the first entry of a base unlisted."""
    found = [_range(entry) for entry in members]
    if base is None:
        return tuple(found)
    listed = next((entry for entry in entries if entry.model == base), entries[0])
    return (_range(listed), *found)


def _range(entry: ModelKeys) -> Range | None:
    return entry.layer_range if isinstance(entry, SourceKeys) else None


def _once(entries: list[ModelKeys]) -> list[ModelKeys]:
    """Models that are listed twice, once: as in mergekit, what the first says goes before."""
    found: dict[tuple[str, Range | None], ModelKeys] = {}
    for entry in entries:
        key = entry.model, _range(entry)
        first = found.setdefault(key, entry)
        both = {**entry.parameters, **first.parameters}
        found[key] = first.model_copy(update={"parameters": both})
    return list(found.values())


def _twice(entries: list[ModelKeys]) -> list[str]:
    """A warning for each model that is listed twice."""
    counts = Counter((entry.model, _range(entry)) for entry in entries)
    return [
        f"{name} is listed {count} times, and counts once, as in mergekit: raise its weight"
        for (name, _), count in counts.items()
        if count > 1
    ]


def _base_alone(name: str, base: str, part: SlicePart, warnings: list[str]) -> Inputs:
    """Task vectors of no model: the base."""
    warnings.append(f"{name} of no model beside its base is that base: the output is {base}")
    return replace(_alone(base, part), warnings=tuple(warnings))


def _alone(model: str, part: SlicePart) -> Inputs:
    """One model as it is."""
    ranges = _ranges(model, [], part.entries)
    scale: dict[str, tuple[Value, ...]] = {"scale": (1.0,)}
    return Inputs("passthrough", None, (model,), scale, {}, 0, (), ranges, part.module)


def _parted(method: Method, part: SlicePart) -> tuple[str | None, list[ModelKeys]]:
    """The base of the rule, and the other models."""
    base, entries = part.base_model, part.entries
    names = [entry.model for entry in entries]
    if not entries:
        raise RecipeError("no models", where="models", remedy="list at least one")
    if base is None:
        _check_baseless(method, names)
        return None, entries
    if method.base is BaseUse.NONE:
        if _is_ignored(method, base, entries) or (base not in names and part.is_slice):
            return None, entries
        if base not in names:
            raise RecipeError(
                f"{method.name} has no task vectors, and base_model {base} is not one of its "
                "models",
                where="base_model",
                remedy="list it under models with its weight, or leave base_model out",
            )
        return None, sorted(entries, key=lambda entry: entry.model != base)
    listed = next((entry for entry in entries if entry.model == base), None)
    others = [entry for entry in entries if entry is not listed]
    if method.base is BaseUse.END and len(others) == 2 and base not in names:  # noqa: PLR2004
        raise RecipeError(
            f"base_model {base} is not one of the two models",
            where="base_model",
            remedy=f"write `base_model: {names[0]}`: it is the end at t = 0",
        )
    if method.base is BaseUse.OPTIONAL and base in names and len(others) < method.least:
        raise RecipeError(
            f"base_model {base} is one of the models, and {method.name} measures the others from "
            "it",
            where="base_model",
            remedy="leave base_model out, or name the model that both were tuned from",
        )
    return base, others


def _is_ignored(method: Method, base: str | None, entries: list[ModelKeys]) -> bool:
    """Whether a recipe names a base that its method has no use for."""
    return method.ignores_base and base not in {None, *(entry.model for entry in entries)}


def _check_baseless(method: Method, names: list[str]) -> None:
    if method.base is BaseUse.END:
        raise RecipeError(
            f"{method.name} needs base_model, the end at t = 0",
            where="base_model",
            remedy=f"add `base_model: {names[0]}`",
        )
    if method.base is BaseUse.REQUIRED:
        raise RecipeError(
            f"{method.name} needs base_model, which the task vectors start at",
            where="base_model",
            remedy="add `base_model: ` and the model that the others were tuned from",
        )


def _each(
    method: Method, parameter: Parameter, members: list[ModelKeys], shared: Mapping[str, Any]
) -> tuple[Value, ...]:
    """One of the parameters of each member: its own, or that for all, or the default."""
    key = parameter.name
    found = [_said(key, entry, shared) for entry in members]
    if not parameter.together:
        return tuple(in_turn([*said, parameter.default]) for said in found)
    missing = [entry.model for entry, said in zip(members, found, strict=True) if not said]
    if len(missing) == len(members) and not parameter.stated:
        return (parameter.default,) * len(members)
    if missing:
        raise RecipeError(
            f"{method.name} needs the {key} of {', '.join(missing)}",
            where="models",
            remedy=f"add `parameters: {{{key}: 0.5}}` under each model",
        )
    return tuple(map(in_turn, found))


def _said(key: str, entry: ModelKeys, shared: Mapping[str, Any]) -> list[Value]:
    """What a recipe says of a member's parameter: its own value, then that for all."""
    raw = [entry.parameters.get(key), shared.get(key)]
    where = f"parameters of {entry.model}: {key}"
    return [parse_value(value, where) for value in raw if value is not None]


def _shared(method: Method, given: Mapping[str, Any]) -> dict[str, Value]:
    """The method's parameters, their defaults where they are not given."""
    return {key: _one(method, each, given.get(key)) for key, each in method.shared.items()}


def _one(method: Method, parameter: Parameter, raw: object) -> Value:
    key = parameter.name
    if raw is not None:
        value = parse_value(raw, f"parameters.{key}")
        return value if parameter.stated else in_turn([value, parameter.default])
    if parameter.stated:
        raise RecipeError(
            f"{method.name} needs {key}",
            where="parameters",
            remedy=f"add `parameters: {{{key}: 0.5}}`",
        )
    return parameter.default


def check_parameter(method: Method, key: str, value: object, *, of_model: bool) -> None:
    """Refuse a word that no method knows, and a value that is none or out of bounds.

    Args:
        method: Of the recipe.
        key: As written.
        value: As written.
        of_model: Whether it is said of one model.

    Raises:
        RecipeError: With what the method takes.
    """
    takes = {**({} if of_model else method.shared), **method.each}
    if key in {*takes, "weight"} and value is not None:
        for number in numbers_in(parse_value(value, "")):
            if key in takes:
                takes[key].checked(number)
    elif key not in {*takes, *known_parameters(), *EVERYWHERE, *method.accepted}:
        hint = nearest_of(key, [*takes, *sorted(known_parameters())])
        raise RecipeError(
            f"unknown parameter {key}",
            remedy=f"{hint}parameters of {method.name}: {', '.join(takes)}",
        )


def known_parameters() -> set[str]:
    """Keys that mean something to some method.

    Example:
        >>> {"density", "epsilon"} <= known_parameters(), "speed" in known_parameters()
        (True, False)
    """
    return {each.name for method in METHODS.values() for each in method.parameters}
