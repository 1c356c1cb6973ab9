"""JSON from outside, read within bounds: every config, index, adapter and report goes through here.

Python's reader takes whatever it is given. Text that is nested too deep ends the reader or what
comes after it, numbers of thousands of digits cannot be printed, and half a character (a lone
surrogate) cannot be written again.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mergekit_geo.errors import FormatError
from mergekit_geo.files.regular import read_bytes

DEPTH = 100
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 160
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str, **hooks: Any) -> Any:
    """The parsed text.

    Args:
        text: Of a file.
        hooks: As `json.loads` takes them.

    Raises:
        ValueError: It is not JSON, or not JSON that is accepted here; in one line.

    Example:
        >>> parse_json("[" * 101 + "]" * 101)
        Traceback (most recent call last):
        ValueError: nested deeper than 100 levels
    """
    try:
        found = json.loads(text, **hooks)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEPTH} levels") from None
    if _is_deep(found):
        raise ValueError(f"nested deeper than {DEPTH} levels")
    if SURROGATE.search(text):
        _refuse_halves(found)
    return found


def read_json(
    path: Path, parse: Callable[[str], Any] = parse_json, where: str = ""
) -> dict[str, Any]:
    """The object that a JSON file holds.

    Args:
        path: Of the file.
        parse: From its text.
        where: What errors call the place; the path by default.

    Raises:
        FormatError: It is no file, no UTF-8, no JSON, or no object.
    """
    try:
        found = parse(read_bytes(path).decode("utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"expected an object, found a {type(found).__name__}")
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FormatError(f"not a sound {path.name}: {reason}", where=where or str(path)) from error
    return found


def brief(value: object) -> str:
    """A value as Python writes it, of any size, in few characters.

    Example:
        >>> brief([1] * 1000)
        '[1, 1, 1, 1, 1, 1, ...]'
    """
    try:
        return SHORT.repr(value)
    except ValueError:  # Python prints no number of more than 4,300 digits
        return f"a huge {type(value).__name__}"


def _is_deep(found: Any) -> bool:
    """Whether there is a value inside more than so many others."""
    level = [found]
    for _ in range(DEPTH):
        level = [
            value
            for holder in level
            if isinstance(holder, dict | list)
            for value in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(value, dict | list)
        ]
        if not level:
            return False
    return True


def _refuse_halves(found: Any) -> None:
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("an unpaired surrogate, which is not a valid character") from None
