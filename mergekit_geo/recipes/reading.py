"""From YAML to a recipe, or to an error that says where and what to write instead."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from pydantic import BaseModel, ValidationError

from mergekit_geo.config.sets_file import SetKeys
from mergekit_geo.errors import ArgumentError, RecipeError
from mergekit_geo.files.local_path import local_path
from mergekit_geo.files.regular import read_bytes
from mergekit_geo.files.sound_json import brief
from mergekit_geo.files.sound_yaml import compose, construct
from mergekit_geo.merging.methods import method_named
from mergekit_geo.printable import COMPARED
from mergekit_geo.recipes.along import AlongKeys
from mergekit_geo.recipes.finetune import FinetuneKeys
from mergekit_geo.recipes.inputs import check_parameter
from mergekit_geo.recipes.members import misnamed
from mergekit_geo.recipes.misplaced import PARTS as THEIR_PARTS
from mergekit_geo.recipes.misplaced import KeyPath, all_parameters, swept
from mergekit_geo.recipes.schema import ObjectiveKeys, Recipe, without_modules

if TYPE_CHECKING:
    from mergekit_geo.specs.merges import Recipes

PARTS: dict[str, type[BaseModel]] = {
    **THEIR_PARTS, "objective": ObjectiveKeys, "sets": SetKeys, "along": AlongKeys,
    "finetune": FinetuneKeys,
}  # fmt: skip
"""Schema of the mapping under each key."""

HOLDERS = {"models", "slices", "sources", "modules"}
"""Keys below which there are parameters."""

REFUSED = {
    "experts": "building a mixture of experts makes another architecture, not a point between "
    "models",
    "gate_mode": "building a mixture of experts makes another architecture, not a point between "
    "models",
}
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
        if self.node is not None and not loc:
            return f"{self.source}, line {self.node.start_mark.line + 1}"
        return _where(self.node, loc, self.source)


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
    if isinstance(source, Mapping):
        return [_document(dict(source), None, "recipe", strict=strict)]
    if not isinstance(source, str | Path):
        if not source:
            raise RecipeError("expected a recipe, found none", where="recipe")
        return [
            _document(dict(one), None, f"recipe {i}", strict=strict)
            for i, one in enumerate(source, 1)
        ]
    text, name = _text(source)
    return [_of_node(node, name, strict=strict) for node in compose(text, name) or [None]]


def _of_node(node: yaml.Node | None, name: str, *, strict: bool) -> Document:
    raw = None if node is None else construct(node, name)
    if not isinstance(raw, dict):
        raise RecipeError(
            f"a recipe is a mapping, found {type(raw).__name__}",
            where=name,
            remedy="begin with `merge_method: linear`",
        )
    _refuse_repeated(node, name)
    return _document(raw, node, name, strict=strict)


def _document(raw: dict[str, Any], node: yaml.Node | None, name: str, *, strict: bool) -> Document:
    kept, idle = swept(raw)
    recipe = _validated(kept, node, name)
    errors = [
        RecipeError(
            f"{_path(one.loc)} has no effect: {one.why}",
            where=_where(node, one.loc, name),
            remedy=one.remedy,
        )
        for one in idle
    ]
    if strict and errors:
        raise errors[0]
    return Document(recipe, name, node, tuple(map(str, errors)))


def _text(source: str | Path) -> tuple[str, str]:
    if source == "-":
        return sys.stdin.read(), "standard input"
    if isinstance(source, str) and "\n" in source:
        return source, "recipe"
    try:
        return read_bytes(local_path(source)).decode("utf-8"), str(source)
    except UnicodeDecodeError as error:
        raise RecipeError("not a text file in UTF-8", where=str(source)) from error
    except OSError as error:
        raise RecipeError(
            f"cannot be read: {error.strerror}", where=str(source), remedy="give a YAML file"
        ) from error


def _refuse_repeated(node: yaml.Node | None, name: str) -> None:
    """Refuse equal keys, of which YAML readers silently keep the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise RecipeError(f"{key.value} is there twice", where=f"{name}, line {line}")
            seen.add(key.value)
            _refuse_repeated(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated(item, name)


def _validated(raw: dict[str, Any], node: yaml.Node | None, name: str) -> Recipe:
    try:
        found = Recipe.model_validate(raw)
    except ValidationError as error:
        _explain_first(error, node, name)
    try:
        found = without_modules(found)
    except RecipeError as error:
        where = _where(node, (error.where,), name)
        raise RecipeError(error.message, where=where, remedy=error.remedy) from error
    _check_parameters(found.merge_method, raw, node, name)
    if wrong := misnamed(found):
        raise RecipeError(wrong.said, where=_where(node, wrong.loc, name), remedy=wrong.remedy)
    return found


def _check_parameters(method: str, raw: dict[str, Any], node: yaml.Node | None, name: str) -> None:
    """Refuse an unknown method, and parameters that it cannot take, where they are written."""
    place: KeyPath = ("merge_method",)
    try:
        found = method_named(method)
        for place, key, value in _parameters(raw):
            check_parameter(found, key, value, of_model=bool({"models", "sources"} & {*place}))
    except ArgumentError as error:
        said = f"{_path(place)}{error.where}: {error.message}"
        raise RecipeError(said, where=_where(node, place, name), remedy=error.remedy) from error


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


def _explain_first(error: ValidationError, node: yaml.Node | None, name: str) -> NoReturn:
    """Raise the first problem: unknown keys come first, since others can follow from them."""
    found = error.errors()
    unknown = [e for e in found if e["type"] == "extra_forbidden"]
    first = (unknown or found)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ArgumentError):
        where = _where(node, first["loc"], name)
        said = f"{_path(first['loc'])}: {cause.message}".removeprefix(": ")
        raise RecipeError(said, where=where, remedy=cause.remedy) from error
    _explain(first["loc"], first["type"], first["msg"], first["input"], node, name)


def _explain(
    loc: KeyPath, kind: str, said: str, value: object, node: yaml.Node | None, name: str
) -> NoReturn:
    """Raise pydantic's finding as an error in terms of the recipe."""
    where, path = _where(node, loc, name), _path(loc)
    if kind == "extra_forbidden":
        _refuse_key(loc, where)
    if kind == "missing":
        raise RecipeError(f"{path} is missing", where=where, remedy=f"add `{loc[-1]}: ...`")
    said = (said[:1].lower() + said[1:]).split(" or instance of")[0]
    raise RecipeError(f"{path}: {said}, found {brief(value)}", where=where)


def _refuse_key(loc: KeyPath, where: str) -> NoReturn:
    key, path = str(loc[-1]), _path(loc)
    if key in REFUSED:
        raise RecipeError(f"{path}: {REFUSED[key]}", where=where)
    known = sorted(_part(loc).model_fields)
    inner = sorted(all_parameters()) if "parameters" in known else []
    near = difflib.get_close_matches(key[:COMPARED], [*known, *inner], 1, 0.5)
    place = " under parameters" if near and near[0] in inner else ""
    remedy = f"did you mean {near[0]}{place}? " if near else ""
    raise RecipeError(
        f"unknown key {path}", where=where, remedy=f"{remedy}known here: {', '.join(known)}"
    )


def _part(loc: KeyPath) -> type[BaseModel]:
    """The part of the schema that holds the last of these keys."""
    return next((PARTS[key] for key in reversed(loc[:-1]) if key in PARTS), Recipe)


def _where(node: yaml.Node | None, loc: KeyPath, name: str) -> str:
    line = _line(node, loc)
    return f"{name}, line {line}" if line else name


def _path(loc: Sequence[int | str]) -> str:
    parts = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in loc)
    return "".join(parts).lstrip(".")


def _line(node: yaml.Node | None, loc: KeyPath) -> int | None:
    """The line of a key, or of the nearest mapping that there is around it."""
    line: int | None = None
    for key in loc:
        if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            pair = next((p for p in node.value if p[0].value == key), None)
            if pair is None:
                return line or int(node.start_mark.line) + 1
            line, node = pair[0].start_mark.line + 1, pair[1]
    return line
