"""The command line that does something again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SPELT = {"source": "data", "config": "data-config"}
"""Settings whose flag has another name."""


def command_line(words: Iterable[str], *settings: DataclassInstance) -> str:
    """`geo-merge` with these words, and the flags of every setting that is not the default.

    Example:
        >>> from mergekit_geo.outputs.config import OutputConfig
        >>> command_line(["soup", "a b", "c"], OutputConfig(dtype="float16", fsync=False))
        "geo-merge soup 'a b' c --dtype=float16 --no-fsync"
    """
    flags = [flag for setting in settings for flag in changed_flags(setting)]
    return shlex.join(["geo-merge", *words, *flags])


def changed_flags(setting: DataclassInstance) -> Sequence[str]:
    """Flags of the fields that differ from their defaults."""
    flags = []
    for field in fields(setting):
        value = getattr(setting, field.name)
        if value == field.default:
            continue
        name = SPELT.get(field.name, field.name).replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{name}" if value else f"--no-{name}")
        else:
            flags.append(f"--{name}={value}")
    return flags
