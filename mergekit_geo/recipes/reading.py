"""From YAML to a recipe, or to an error that says where and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from pydantic import BaseModel, ValidationError

from mergekit_geo.config.sets_file import SetKeys
from mergekit_geo.errors import ArgumentError, RecipeError
from mergekit_geo.files.sound_json import brief
from mergekit_geo.merging.methods import method_named
from mergekit_geo.printable import COMPARED
from mergekit_geo.recipes.along import AlongKeys
from mergekit_geo.recipes.finetune import FinetuneKeys
from mergekit_geo.recipes.inputs import check_parameter
from mergekit_geo.recipes.members import misnamed
from mergekit_geo.recipes.misplaced import PARTS as THEIR_PARTS
from mergekit_geo.recipes.misplaced import all_parameters, swept
from mergekit_geo.recipes.schema import ObjectiveKeys, Recipe, without_modules
from mergekit_geo.recipes.searched import searched_places
from mergekit_geo.recipes.written import KeyPath, Written, path_of, place_of, written

if TYPE_CHECKING:
    from mergekit_geo.specs.merges import Recipes

PARTS: dict[str, type[BaseModel]] = {
    **THEIR_PARTS, "objective": ObjectiveKeys, "sets": SetKeys, "along": AlongKeys,
    "finetune": FinetuneKeys,
}  # fmt: skip
"""Schema of the mapping under each key."""

HOLDERS = {"models", "slices", "sources", "modules"}
"""Keys below which there are parameters."""

EXPERTS = "building a mixture of experts makes another architecture, not a point between models"
REFUSED = {
    "experts": EXPERTS, "gate_mode": EXPERTS,
    "genome": "`geo-merge search` tries recipes: it takes ranges and choices in place of values",
}  # fmt: skip
"""Keys of other tools' recipes that are refused, and why."""


@dataclass(frozen=True)
class Document:
    """One recipe of a file.

    Attributes:
        recipe: What it says.
        source: Name of the file.
        node: Its lines; None where it is no text.
        warnings: Keys without effect, with their places.
    """

    recipe: Recipe
    source: str
    node: yaml.Node | None = None
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str | None:
        """What the recipe is called."""
        return self.recipe.name

    def where(self, *loc: int | str) -> str:
        """The file, and the line of a key, or the first one."""
        return place_of(self.node, loc, self.source)


def read_recipe(source: str | Path | Mapping[str, Any]) -> Recipe:
    """A recipe from a file, from YAML text (of more than one line), or from a mapping.

    Raises:
        RecipeError: No such file, no sound YAML, or no recipe; with line and column where known.

    Example:
        >>> read_recipe({"merge_method": "linear", "models": [{"model": "a"}]}).merge_method
        'linear'
    """
    return read_document(source).recipe


def read_document(source: str | Path | Mapping[str, Any], *, strict: bool = False) -> Document:
    """The only recipe of a file, with what is to be said of its text.

    Args:
        source: As `read_recipe` takes it.
        strict: Refuse keys that mergekit ignores where they stand.

    Raises:
        RecipeError: As `read_recipe`; or there are several; or a key has no effect, where that is
            refused.
    """
    found = read_documents(source, strict=strict)
    if len(found) > 1:
        raise RecipeError(f"expected one recipe, found {len(found)}", where=found[1].where())
    return found[0]


def read_documents(source: Recipes, *, strict: bool = False) -> list[Document]:
    """Every recipe of a file, of YAML text, of a mapping or of a list of mappings.

    Args:
        source: As a call names it.
        strict: Refuse keys that mergekit ignores where they stand.

    Raises:
        RecipeError: As `read_document`.
    """
    return [document_of(one, strict=strict) for one in written(source)]


def document_of(said: Written, *, strict: bool = False) -> Document:
    """The recipe that a text holds.

    Args:
        said: As YAML gives it.
        strict: Refuse keys that mergekit ignores where they stand.

    Raises:
        RecipeError: It is no recipe, with the line; or has ranges, which a search takes.
    """
    _refuse_ranges(said)
    kept, idle = swept(dict(said.raw))
    recipe = _validated(kept, said)
    errors = [
        RecipeError(
            f"{path_of(one.loc)} has no effect: {one.why}",
            where=said.where(*one.loc),
            remedy=one.remedy,
        )
        for one in idle
    ]
    if strict and errors:
        raise errors[0]
    return Document(recipe, said.source, said.node, tuple(map(str, errors)))


def _refuse_ranges(said: Written) -> None:
    """Refuse a recipe that asks which number, or which method, is best."""
    place = next(searched_places(said.raw), None)
    if place is None:
        return
    has = "several choices" if place == ("merge_method",) else "a range"
    raise RecipeError(
        f"{path_of(place)} has {has}, and a merge takes one",
        where=said.where(*place),
        remedy="`geo-merge search RECIPE.yml -o OUT` finds the best one",
    )


def _validated(raw: dict[str, Any], text: Written) -> Recipe:
    try:
        found = Recipe.model_validate(raw)
    except ValidationError as error:
        _explain_first(error, text)
    try:
        found = without_modules(found)
    except RecipeError as error:
        where = text.where(error.where)
        raise RecipeError(error.message, where=where, remedy=error.remedy) from error
    _check_parameters(found.merge_method, raw, text)
    if wrong := misnamed(found):
        raise RecipeError(wrong.said, where=text.where(*wrong.loc), remedy=wrong.remedy)
    return found


def _check_parameters(method: str, raw: dict[str, Any], text: Written) -> None:
    """Refuse an unknown method, and parameters that it cannot take, where they are written."""
    place: KeyPath = ("merge_method",)
    try:
        found = method_named(method)
        for place, key, value in _parameters(raw):
            check_parameter(found, key, value, of_model=bool({"models", "sources"} & {*place}))
    except ArgumentError as error:
        said = f"{path_of(place)}{error.where}: {error.message}"
        raise RecipeError(said, where=text.where(*place), remedy=error.remedy) from error


def _parameters(raw: object, loc: KeyPath = ()) -> Iterator[tuple[KeyPath, str, object]]:
    """The parameters of models, slices and the whole: place, key and value."""
    inner = (
        raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    )
    for key, value in inner:
        if key == "parameters" and isinstance(value, dict):
            yield from (((*loc, key, one), one, value[one]) for one in value)
        elif isinstance(key, int) or key in HOLDERS or loc[-1:] == ("modules",):
            yield from _parameters(value, (*loc, key))


def _explain_first(error: ValidationError, text: Written) -> NoReturn:
    """Raise the first problem: unknown keys come first, since others can follow from them."""
    found = error.errors()
    unknown = [e for e in found if e["type"] == "extra_forbidden"]
    first = (unknown or found)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ArgumentError):
        where = text.where(*first["loc"]) if first["loc"] else text.source
        said = f"{path_of(first['loc'])}: {cause.message}".removeprefix(": ")
        raise RecipeError(said, where=where, remedy=cause.remedy) from error
    _explain(first["loc"], first["type"], first["msg"], first["input"], text)


def _explain(loc: KeyPath, kind: str, said: str, value: object, text: Written) -> NoReturn:
    """Raise pydantic's finding as an error in terms of the recipe."""
    where, path = text.where(*loc), path_of(loc)
    if kind == "extra_forbidden":
        _refuse_key(loc, where)
    if kind == "missing":
        raise RecipeError(f"{path} is missing", where=where, remedy=f"add `{loc[-1]}: ...`")
    said = (said[:1].lower() + said[1:]).split(" or instance of")[0]
    said = said.replace("a valid dictionary", "a mapping")
    remedy = _as_mapping(loc, value) if kind == "model_type" else ""
    raise RecipeError(f"{path}: {said}, found {brief(value)}", where=where, remedy=remedy)


def _as_mapping(loc: KeyPath, value: object) -> str:
    """How a mapping says what is written as text: `model: a` for `a`."""
    if not isinstance(value, str):
        return ""
    return f"write `{next(iter(_part((*loc, '')).model_fields))}: {brief(value)[1:-1]}`"


def _refuse_key(loc: KeyPath, where: str) -> NoReturn:
    key, path = str(loc[-1]), path_of(loc)
    if key in REFUSED:
        raise RecipeError(f"{path}: {REFUSED[key]}", where=where)
    known = sorted(_part(loc).model_fields)
    inner = sorted(all_parameters()) if "parameters" in known else []
    longer = [one for one in known if one.startswith(f"{key}_")]
    near = longer or difflib.get_close_matches(key[:COMPARED], [*known, *inner], 1, 0.5)
    place = " under parameters" if near and near[0] in inner else ""
    remedy = f"did you mean {near[0]}{place}? " if near else ""
    raise RecipeError(
        f"unknown key {path}", where=where, remedy=f"{remedy}known here: {', '.join(known)}"
    )


def _part(loc: KeyPath) -> type[BaseModel]:
    """The part of the schema that holds the last of these keys."""
    return next((PARTS[key] for key in reversed(loc[:-1]) if key in PARTS), Recipe)
