"""Signatures and texts of the public functions, which the options of their commands give.

griffe reads source, where such a function takes its options as one value; a caller does not.
"""

from __future__ import annotations

import inspect
from typing import Any

import griffe

import mergekit_geo

PUBLIC = {name: getattr(mergekit_geo, name) for name in mergekit_geo.__all__}
COMMANDS = {
    f"{one.__module__}.{one.__name__}": one for one in PUBLIC.values() if hasattr(one, "of")
}
KINDS = {
    inspect.Parameter.POSITIONAL_OR_KEYWORD: griffe.ParameterKind.positional_or_keyword,
    inspect.Parameter.KEYWORD_ONLY: griffe.ParameterKind.keyword_only,
    inspect.Parameter.VAR_KEYWORD: griffe.ParameterKind.var_keyword,
}


class Signatures(griffe.Extension):
    """Give the functions of commands the parameters that they have when they are called."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Replace what the source says, where a command's options say more."""
        if (called := COMMANDS.get(func.path)) is None:
            return
        signature = inspect.signature(called)
        func.parameters = griffe.Parameters(*map(_parameter, signature.parameters.values()))
        func.returns = str(signature.return_annotation)
        func.docstring = griffe.Docstring(str(called.__doc__), lineno=func.lineno, parent=func)


def _parameter(found: inspect.Parameter) -> griffe.Parameter:
    default = None if found.default is found.empty else _shown(found.default)
    return griffe.Parameter(
        found.name, annotation=str(found.annotation), kind=KINDS[found.kind], default=default
    )


def _shown(default: object) -> str:
    """A default; of settings, which have their own page, the name."""
    kind = type(default)
    return f"{kind.__name__}()" if hasattr(kind, "__dataclass_fields__") else repr(default)
