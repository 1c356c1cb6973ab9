"""A recipe as its text has it, with the lines that its keys stand in."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mergekit_geo.errors import RecipeError
from mergekit_geo.files.local_path import local_path
from mergekit_geo.files.regular import read_bytes
from mergekit_geo.files.sound_yaml import compose, construct

if TYPE_CHECKING:
    from mergekit_geo.specs.merges import Recipes

KeyPath = tuple[int | str, ...]
"""Keys that lead to a value of a recipe."""


@dataclass(frozen=True)
class Written:
    """A recipe as its text has it, nothing of it checked.

    Attributes:
        raw: What it says.
        source: Name of the file.
        node: Its lines; None where it is no text.
    """

    raw: Mapping[str, Any]
    source: str = "recipe"
    node: yaml.Node | None = None

    def where(self, *loc: int | str) -> str:
        """The file, and the line of a key, or the first one."""
        return place_of(self.node, loc, self.source)


def written(source: Recipes) -> list[Written]:
    """Every recipe of a file, of YAML text, of a mapping or of a list of mappings.

    Args:
        source: As a call names it.

    Raises:
        RecipeError: No such file, no sound YAML, no mapping, or a key with two values.
    """
    if isinstance(source, Mapping):
        return [Written(dict(source))]
    if not isinstance(source, str | Path):
        if not source:
            raise RecipeError("expected a recipe, found none", where="recipe")
        return [Written(dict(one), f"recipe {i}") for i, one in enumerate(source, 1)]
    text, name = _text(source)
    return [_of_node(node, name) for node in compose(text, name) or [None]]


def _of_node(node: yaml.Node | None, name: str) -> Written:
    raw = None if node is None else construct(node, name)
    if not isinstance(raw, dict):
        raise RecipeError(
            f"a recipe is a mapping, found {type(raw).__name__}",
            where=name,
            remedy="begin with `merge_method: linear`",
        )
    _refuse_repeated(node, name)
    return Written(raw, name, node)


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
            f"cannot be read: {error.strerror}",
            where=str(source),
            remedy="give a YAML file, or - for standard input",
        ) from error


def _refuse_repeated(node: yaml.Node | None, name: str) -> None:
    """Refuse equal keys that say different things: YAML readers silently keep the last."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, yaml.Node] = {}
        for key, value in node.value:
            first = seen.setdefault(key.value, value)
            if first is not value and yaml.serialize(first) != yaml.serialize(value):
                place = f"{name}, line {key.start_mark.line + 1}"
                other = f"line {first.start_mark.line + 1} says something else"
                raise RecipeError(f"{key.value} is there twice: {other}", where=place)
            _refuse_repeated(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated(item, name)


def place_of(node: yaml.Node | None, loc: KeyPath, name: str) -> str:
    """The file, and the line of a key, or the first one where there is none.

    Args:
        node: Lines of the file, where they are known.
        loc: Keys that lead to it.
        name: Of the file.
    """
    line = node.start_mark.line + 1 if node is not None and not loc else _line(node, loc)
    return f"{name}, line {line}" if line else name


def path_of(loc: Sequence[int | str]) -> str:
    """Keys as text.

    Example:
        >>> path_of(("models", 0, "parameters", "weight"))
        'models[0].parameters.weight'
    """
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
