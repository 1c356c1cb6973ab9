"""A command's options as a JSON schema: what a form asks, and a service checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING
from typing import TYPE_CHECKING, Any

from mergekit_geo.config.option import Declared, declared

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

TYPES: dict[str, dict[str, Any]] = {
    "text": {"type": "string"}, "path": {"type": "string"}, "data": {"type": "string"},
    "flag": {"type": "boolean"}, "off": {"type": "boolean"},
    "whole": {"type": "integer"}, "number": {"type": "number"},
    "sources": {"type": ["string", "array"], "items": {"type": "string"}},
    "by_model": {"type": ["string", "array"], "items": {"type": "string"}},
    "texts": {"type": "array", "items": {"type": "string"}},
    "numbers": {"type": "array", "items": {"type": "number"}},
    "pair": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
}  # fmt: skip


def schema_of(made: type[DataclassInstance]) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a command's options, by name.

    `made(kind, values)` takes what it admits.

    Example:
        >>> from mergekit_geo.config.measures import Compute
        >>> schema_of(Compute)["properties"]["compute_dtype"]["enum"]
        ['float32', 'bfloat16', 'float16']
    """
    found = [one for one in declared(made) if one.on_command_line and not one.option.shared]
    return {
        "type": "object",
        "properties": {one.name: dict(_property(one)) for one in found},
        "required": [one.name for one in found if one.default is MISSING or one.option.required],
        "additionalProperties": False,
    }


def _property(found: Declared) -> Iterator[tuple[str, Any]]:
    known = found.option
    yield from TYPES[found.kind].items()
    yield "description", known.text
    if known.choices:
        yield "enum", list(known.choices)
    if known.least is not None:
        yield "minimum", known.least
    if found.default is not MISSING and found.default is not None:
        yield "default", list(found.default) if isinstance(found.default, tuple) else found.default
    if known.panel:
        yield "x-panel", known.panel
