"""Docstrings of what takes options: what these are is said where they are declared."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

from mergekit_geo.config.option import GROUP, Declared, own_options

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Made = TypeVar("Made", bound="type[DataclassInstance]")
SECTION = re.compile(r"^(Attributes|Raises|Example):$", re.MULTILINE)
WIDTH = 100


def described(made: Made) -> Made:
    """Add what the options of a dataclass are to its docstring, as its arguments.

    Example:
        >>> from mergekit_geo.config.output import OutputConfig
        >>> "max_shard_size: Largest size of a file" in OutputConfig.__doc__
        True
    """
    made.__doc__ = with_arguments(made.__doc__ or "", texts_of(made))
    return made


def with_arguments(text: str, arguments: Mapping[str, str]) -> str:
    """A docstring with a section on arguments, before its other sections.

    Args:
        text: Without such a section.
        arguments: What each is, by name.

    Example:
        >>> print(with_arguments("Add.", {"x": "A number."}))
        Add.
        <BLANKLINE>
        Args:
            x: A number.
    """
    text = inspect.cleandoc(text)
    found = SECTION.search(text)
    start = found.start() if found else len(text)
    head, tail = text[:start].rstrip(), text[start:]
    lines = [f"    {name}: {about}" for name, about in arguments.items()]
    wrapped = [textwrap.fill(line, WIDTH, subsequent_indent=" " * 8) for line in lines]
    return "\n".join([head, "", "Args:", *wrapped, *([""] if tail else []), tail]).rstrip()


def texts_of(made: type[DataclassInstance]) -> dict[str, str]:
    """What the fields of a dataclass are, by name: its options, and groups of them."""
    options = {one.path[0]: _text(one) for one in own_options(made)}
    groups = {
        one.name: f"{_summary(one.metadata[GROUP])} (`{one.metadata[GROUP].__name__}`)."
        for one in fields(made)
        if GROUP in one.metadata
    }
    return {**options, **groups}


def _summary(made: type) -> str:
    """The first sentence of a docstring, without its full stop."""
    return inspect.cleandoc(made.__doc__ or "").partition("\n")[0].rstrip(".")


def _text(found: Declared) -> str:
    """The text of an option as Python has it, where a flag may turn off what is on."""
    known = found.option
    text = known.text
    if known.switches_off:
        text = f"If False: {text[0].lower()}{text[1:]}"
    words = ", ".join(f"`{word}`" for word in known.choices)
    unset = f" By default: {known.unset}." if known.unset and found.default is None else ""
    return f"{text}{f' One of {words}.' if words else ''}{unset}"
