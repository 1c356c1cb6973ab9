"""What differs between two trees of JSON, as lines that a person reads."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

DIGEST = re.compile(r"[0-9a-f]{32,}")
PICTURES = (".png", ".svg", ".pdf")
TEXTS = (".md", ".html", ".txt")
SHORTEST = 160


@dataclass(frozen=True)
class Leniency:
    """What may differ.

    Attributes:
        words: Texts, cards, pages, tables, and the names of settings.
        pictures: Bytes of pictures.
    """

    words: bool = False
    pictures: bool = False


def differences(old: Any, new: Any, lenient: Leniency, path: tuple[str, ...] = ()) -> Iterator[str]:
    """A line for every difference: where it is, what was, what is."""
    if _may_differ(old, new, lenient, path):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _of_mappings(old, new, lenient, path)
    elif (
        _is_text(old)
        and _is_text(new)
        and (path[-1:] in (("stdout",), ("stderr",)) or len(path) == 2)
    ):
        yield from _of_texts(old, new, path)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _of_lists(old, new, lenient, path)
    elif type(old) is not type(new) or repr(old) != repr(new):
        yield f"{_name(path)}: {_short(old)} -> {_short(new)}"


def _may_differ(old: Any, new: Any, lenient: Leniency, path: tuple[str, ...]) -> bool:
    if lenient.pictures and path[-1:] and path[-1].endswith(PICTURES):
        return True
    if not lenient.words:
        return False
    if path[-1:] and path[-1].endswith(TEXTS):
        return True
    if path[-1:] in (("stdout",), ("stderr",)):
        return _is_text(old) and _is_text(new)
    if isinstance(old, str) and isinstance(new, str):
        return not (DIGEST.fullmatch(old) or DIGEST.fullmatch(new))
    return False


def _of_mappings(
    old: dict[str, Any], new: dict[str, Any], lenient: Leniency, path: tuple[str, ...]
) -> Iterator[str]:
    renamed = lenient.words and "settings" in path
    for key in sorted(old.keys() | new.keys()):
        if key in old and key in new:
            yield from differences(old[key], new[key], lenient, (*path, key))
        elif not renamed:
            at = _name((*path, key))
            yield f"{at}: gone" if key in old else f"{at}: new, {_short(new[key])}"


def _of_lists(
    old: list[Any], new: list[Any], lenient: Leniency, path: tuple[str, ...]
) -> Iterator[str]:
    if len(old) != len(new):
        yield f"{_name(path)}: {len(old)} entries -> {len(new)}: {_short(old)} -> {_short(new)}"
        return
    for number, (first, second) in enumerate(zip(old, new, strict=True)):
        yield from differences(first, second, lenient, (*path, str(number)))


def _of_texts(old: list[str], new: list[str], path: tuple[str, ...]) -> Iterator[str]:
    for line in difflib.unified_diff(old, new, lineterm="", n=0):
        if not line.startswith(("---", "+++", "@@")):
            yield f"{_name(path)}: {line[0]} {line[1:]}"


def _is_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(line, str) for line in value)


def _name(path: tuple[str, ...]) -> str:
    return " > ".join(path)


def _short(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= SHORTEST else f"{told[:SHORTEST]}..."
