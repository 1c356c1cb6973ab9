"""Signatures and texts of public names, which griffe cannot read in their source.

A function of a command has there one value, which holds its options, and a class of options has
their declarations as defaults. A caller sees neither, so both are taken from what runs.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import is_dataclass
from typing import Any

import griffe

import mergekit_geo

PUBLIC = [getattr(mergekit_geo, name) for name in mergekit_geo.__all__]
COMMANDS = {f"{one.__module__}.{one.__name__}": one for one in PUBLIC if hasattr(one, "of")}
CLASSES = {f"{one.__module__}.{one.__name__}": one for one in PUBLIC if inspect.isclass(one)}
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
KINDS = {
    inspect.Parameter.POSITIONAL_OR_KEYWORD: griffe.ParameterKind.positional_or_keyword,
    inspect.Parameter.KEYWORD_ONLY: griffe.ParameterKind.keyword_only,
}


class Signatures(griffe.Extension):
    """Give functions of commands and classes of options what they have when they are called."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Replace the parameters of a command's function."""
        if (called := COMMANDS.get(func.path)) is not None:
            func.parameters = _parameters(called)
            func.returns = "Result"
            _document(func, called)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Replace the parameters of a class of options; they need no second list as attributes."""
        kind = CLASSES.get(cls.path)
        if kind is not None and is_dataclass(kind):
            _document(cls, kind)
            for name in kind.__dataclass_fields__:
                cls.members.pop(name, None)
            made = griffe.Function("__init__", parameters=_parameters(kind), parent=cls)
            cls.set_member("__init__", made)

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Show examples as code."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub("Examples:", obj.docstring.value)


def _document(found: griffe.Object, called: object) -> None:
    text = EXAMPLE.sub("Examples:", inspect.getdoc(called) or "")
    found.docstring = griffe.Docstring(text, lineno=found.lineno, parent=found)


def _parameters(called: Any) -> griffe.Parameters:
    return griffe.Parameters(*map(_parameter, inspect.signature(called).parameters.values()))


def _parameter(found: inspect.Parameter) -> griffe.Parameter:
    default = None if found.default is found.empty else repr(found.default)
    return griffe.Parameter(
        found.name, annotation=str(found.annotation), kind=KINDS[found.kind], default=default
    )
