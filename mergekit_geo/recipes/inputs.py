"""Who takes part in a recipe: base and members, each with its parameters."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from mergekit_geo.errors import RecipeError
from mergekit_geo.recipes.methods import (
    ACCEPTED,
    AS_DONE,
    MAY,
    METHODS,
    MUST,
    NO,
    ONE,
    PARAMETERS,
    Method,
    method_named,
)
from mergekit_geo.recipes.schema import ModelEntry, Recipe
from mergekit_geo.recipes.slices import Part, joined, parts_of
from mergekit_geo.recipes.values import LONGEST, Value, in_turn, parse_value

EVERYWHERE = ("int8_mask",)
"""Parameters that save memory elsewhere, and change nothing."""


@dataclass(frozen=True)
class Cast:
    """Who takes part.

    Attributes:
        name: Of the method.
        base: Where task vectors start, None where there are none.
        members: The others, in the order of the rule.
        weights: Of each member, None where it has none.
        each: The other parameters of each member, by name.
        shared: Parameters of the method.
        seed: Of random masks.
        warnings: What is in the recipe and changes nothing.
        start: The first layer that this is about.
        further: The same of later slices, where a recipe has several: their models are these.
    """

    name: str
    base: str | None
    members: tuple[str, ...]
    weights: tuple[Value | None, ...]
    each: dict[str, tuple[Value, ...]]
    shared: dict[str, Value]
    seed: int
    warnings: tuple[str, ...]
    start: int = 0
    further: tuple[Cast, ...] = ()

    @property
    def method(self) -> Method:
        """What the method takes."""
        return METHODS[self.name]

    @property
    def models(self) -> tuple[str, ...]:
        """The anchors: the base if there is one, then the members."""
        return self.members if self.base is None else (self.base, *self.members)


def cast_of(recipe: Recipe) -> Cast:
    """Who takes part in a recipe, checked against what its method takes.

    Raises:
        RecipeError: What the method needs is missing, or not valid.
    """
    return joined([_cast(recipe, part) for part in parts_of(recipe)])


def _cast(recipe: Recipe, part: Part) -> Cast:
    """Who takes part in a stretch of layers."""
    name, method, shared = recipe.merge_method, method_named(recipe.merge_method), part.parameters
    base, members = _parted(name, method, part.base_model, part.entries)
    warnings = [f"{base} is the base of {name}: its parameters change nothing"
                for e in part.entries if e.model == base and e.parameters]  # fmt: skip
    if base is not None and part.entries and not members and method.base == MUST:
        _shared(name, method, shared, warnings)
        return _base_alone(name, base, part, warnings)
    _check_count(name, method, len(members))
    weights = tuple(_weight(name, method, e, shared, warnings) for e in members)
    if method.weights != NO:
        weights = _equal_by_default(name, method, weights, members)
    each = {key: _each(key, default, members, shared) for key, default in method.each.items()}
    values = _shared(name, method, shared, warnings)
    models = tuple(entry.model for entry in members)
    said = tuple(warnings)
    return Cast(name, base, models, weights, each, values, recipe.seed or 0, said, part.start)


def _base_alone(name: str, base: str, part: Part, warnings: list[str]) -> Cast:
    """Task vectors of no model: the base."""
    warnings.append(f"{name} of no model beside its base is that base: the output is {base}")
    whole: dict[str, tuple[Value, ...]] = {"scale": (1.0,)}
    return Cast("passthrough", None, (base,), (None,), whole, {}, 0, tuple(warnings), part.start)


def _parted(
    name: str, method: Method, base: str | None, entries: list[ModelEntry]
) -> tuple[str | None, list[ModelEntry]]:
    """The base of the rule, and the other models."""
    names = [entry.model for entry in entries]
    _check_names(names)
    if base is None:
        if method.base in {MUST, ONE}:
            _refuse_baseless(name, method, names)
        return None, entries
    if method.base == NO:
        if base not in names:
            raise RecipeError(
                f"{name} has no task vectors, and base_model {base} is not one of its models",
                where="base_model",
                remedy="list it under models with its weight, or leave base_model out",
            )
        return None, sorted(entries, key=lambda entry: entry.model != base)
    others = [entry for entry in entries if entry.model != base]
    if method.base == ONE and len(others) == 2 and base not in names:  # noqa: PLR2004
        raise RecipeError(
            f"base_model {base} is not one of the two models",
            where="base_model",
            remedy=f"write `base_model: {names[0]}`: it is the end at t = 0",
        )
    if method.base == MAY and base in names and len(others) < method.least:
        raise RecipeError(
            f"base_model {base} is one of the models, and {name} measures the others from it",
            where="base_model",
            remedy="leave base_model out, or name the model that both were tuned from",
        )
    return base, others


def _check_names(names: list[str]) -> None:
    if not names:
        raise RecipeError("no models", where="models", remedy="list at least one")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RecipeError(f"{twice} is listed twice", where="models", remedy="raise its weight")


def _refuse_baseless(name: str, method: Method, names: list[str]) -> None:
    if method.base == ONE:
        raise RecipeError(
            f"{name} needs base_model, the end at t = 0",
            where="base_model",
            remedy=f"add `base_model: {names[0]}`",
        )
    raise RecipeError(
        f"{name} needs base_model, which the task vectors start at",
        where="base_model",
        remedy="add `base_model: ` and the model that the others were tuned from",
    )


def _check_count(name: str, method: Method, count: int) -> None:
    beside = " beside the base" if method.base in {MUST, ONE} else ""
    if count < method.least:
        raise RecipeError(
            f"{name} needs {method.least} or more models{beside}, found {count}", where="models"
        )
    if method.most is not None and count > method.most:
        stacked = " (stacking layers of several makes another architecture)"
        raise RecipeError(
            f"{name} takes {method.most} model{'s' * (method.most > 1)}{beside}, found {count}"
            f"{stacked if name == 'passthrough' else ''}",
            where="models",
            remedy="several models: linear, karcher or multislerp",
        )


def _weight(
    name: str, method: Method, entry: ModelEntry, shared: dict[str, Any], warnings: list[str]
) -> Value | None:
    where = f"parameters of {entry.model}"
    for key in entry.parameters:
        if key in method.parameters:
            raise RecipeError(
                f"{key} is one for the whole of {name}, not for each model",
                where=where,
                remedy=f"write it once, under the recipe's own parameters: `{key}: ...`",
            )
        if key in method.each:
            continue
        if key != "weight":
            _refuse_unknown(name, key, where, ["weight", *method.each])
            warnings.append(f"{where}: {key} has no part in {name}")
        elif method.weights == NO:
            warnings.append(f"{where}: weight has no part in {name}")
    found = _said("weight", entry, shared)
    return in_turn(found) if found and method.weights != NO else None


def _said(key: str, entry: ModelEntry, shared: dict[str, Any]) -> list[Value]:
    """What a recipe says of a member's parameter: its own value, then that for all."""
    raw = [entry.parameters.get(key), shared.get(key)]
    where = f"parameters of {entry.model}: {key}"
    return [parse_value(value, where) for value in raw if value is not None]


def _each(
    key: str, default: float, members: list[ModelEntry], shared: dict[str, Any]
) -> tuple[Value, ...]:
    """One of the parameters of each member: its own, or that for all, or the default."""
    return tuple(in_turn([*_said(key, entry, shared), default]) for entry in members)


def _equal_by_default(
    name: str, method: Method, weights: tuple[Value | None, ...], members: list[ModelEntry]
) -> tuple[Value | None, ...]:
    missing = [e.model for e, weight in zip(members, weights, strict=True) if weight is None]
    if not missing:
        return weights
    if len(missing) == len(members) and method.weights == MAY:
        return (1.0,) * len(members)
    raise RecipeError(
        f"{name} needs the weight of {', '.join(missing)}",
        where="models",
        remedy="add `parameters: {weight: 0.5}` under each model",
    )


def _shared(
    name: str, method: Method, given: dict[str, Any], warnings: list[str]
) -> dict[str, Value]:
    """The method's parameters, their defaults where they are not given."""
    known = {*method.parameters, *method.each, *EVERYWHERE, "weight"}
    for key in given.keys() - known:
        if key in ACCEPTED.get(name, ()):
            _check_as_done(name, key, given[key])
        else:
            _refuse_unknown(name, key, "parameters", [*method.parameters, *method.each, "weight"])
            warnings.append(f"parameters: {key} has no part in {name}")
    found: dict[str, Value] = {}
    for key, default in method.parameters.items():
        if given.get(key) is not None:
            value = parse_value(given[key], f"parameters.{key}")
            found[key] = value if default is None else in_turn([value, default])
        elif default is None:
            raise RecipeError(
                f"{name} needs {key}",
                where="parameters",
                remedy=f"add `parameters: {{{key}: 0.5}}`",
            )
        else:
            found[key] = default
    return found


def _check_as_done(name: str, key: str, value: object) -> None:
    if key in AS_DONE and value != AS_DONE[key]:
        raise RecipeError(
            f"{key}: {value} of {name} is not built, whole tensors are",
            where="parameters",
            remedy=f"leave {key} out",
        )


def _refuse_unknown(name: str, key: str, where: str, known: list[str]) -> None:
    """Raise for a word that no method knows; others are left to a warning, as in mergekit."""
    if key in PARAMETERS or key in EVERYWHERE:
        return
    near = difflib.get_close_matches(key[:LONGEST], [*known, *sorted(PARAMETERS)], 1)
    hint = f"did you mean {near[0]}? " if near else ""
    takes = ", ".join(known) or "none"
    raise RecipeError(
        f"unknown parameter {key}", where=where, remedy=f"{hint}parameters of {name}: {takes}"
    )
