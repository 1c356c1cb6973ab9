"""A command line made of a command's options."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mergekit_geo.config.flags import is_required
from mergekit_geo.config.option import Declared

TYPES: dict[str, Any] = {
    "text": str, "flag": bool, "off": bool, "whole": int, "number": float, "path": Path,
    "texts": list[str], "sources": list[str], "by_model": list[str], "numbers": str,
    "pair": tuple[float, float], "data": str,
}  # fmt: skip


def parameter(found: Declared) -> inspect.Parameter:
    """An option as a parameter of a typer command."""
    required = is_required(found) or found.option.required
    default = None if found.kind in {"texts", "sources", "by_model", "numbers"} else found.default
    if found.option.switches_off:
        default = False
    choices = found.option.choices
    # typer knows choices as members of an enumeration
    annotation: Any = StrEnum(found.name, {c: c for c in choices}) if choices else TYPES[found.kind]
    if not required and default is None:
        annotation = annotation | None
    return inspect.Parameter(
        found.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else default,
        annotation=Annotated[annotation, _declared(found)],
    )


def _declared(found: Declared) -> Any:
    known = found.option
    if known.positional:
        return typer.Argument(metavar=known.metavar or None, help=known.text)
    flag = known.flag
    if found.kind == "flag" and found.optional:
        flag = f"{flag}/--no-{flag[2:]}"
    spelt = [*([known.short] if known.short else []), flag]
    return typer.Option(*spelt, help=known.text)


def refuse_invalid(given: Mapping[str, Any]) -> None:
    """Refuse infinities, what is no number, and names that no report can hold.

    Raises:
        typer.BadParameter: One is among what was given.
    """
    for name, value in given.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, float) and not math.isfinite(one):
                raise typer.BadParameter(f"--{name.replace('_', '-')}: expected a finite number")
            if isinstance(one, str | Path) and not str(one).isascii():
                _refuse_no_text(str(one))


def _refuse_no_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter(f"not UTF-8: {text!a}") from None
