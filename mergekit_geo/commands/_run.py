"""A public function made of a command's options: its signature, its documentation, its clock."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from mergekit_geo.clock import MINUTES, one_clock
from mergekit_geo.config.option import GROUP, own_options
from mergekit_geo.specs.spec import Spec

Arguments = ParamSpec("Arguments")
Asked = TypeVar("Asked", bound=Spec)
Found = TypeVar("Found")

INNER = {"given"}
"""Fields that are no parameters."""


def command(
    spec: Callable[Arguments, Asked],
) -> Callable[[Callable[[Asked], Found]], Callable[Arguments, Found]]:
    """Make a public function of one that takes a command's options as a value.

    Its parameters are those of the options' dataclass, for type checkers, too; with `of` it takes
    the value itself. All parts of it spend the budget of its `compute` together.

    Args:
        spec: The dataclass.
    """

    def decorate(work: Callable[[Asked], Found]) -> Callable[Arguments, Found]:
        def of(asked: Asked) -> Found:
            with one_clock(getattr(getattr(asked, "compute", None), "budget", MINUTES)):
                return work(asked)

        @wraps(work)
        def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Found:
            return of(spec.called(*args, **kwargs))  # type: ignore[attr-defined]

        assert isinstance(spec, type)
        call.__signature__ = _signature(spec, work)  # type: ignore[attr-defined]
        call.__doc__ = _documented(spec, work)
        call.of = of  # type: ignore[attr-defined]
        return call

    return decorate


def _signature(spec: type[Spec], work: Callable[..., Any]) -> inspect.Signature:
    found = inspect.signature(spec)
    kept = [one for name, one in found.parameters.items() if name not in INNER]
    result = inspect.signature(work).return_annotation
    return found.replace(parameters=kept, return_annotation=result)


def _documented(spec: type[Spec], work: Callable[..., Any]) -> str:
    """The function's text, and what its parameters are."""
    head, mark, tail = inspect.cleandoc(work.__doc__ or "").partition("\nRaises:")
    lines = [f"    {name}: {text}" for name, text in _texts(spec).items()]
    wrapped = [textwrap.fill(line, 100, subsequent_indent=" " * 8) for line in lines]
    return "\n".join([head.rstrip(), "", "Args:", *wrapped, "", f"{mark.strip()}{tail}"])


def _texts(spec: type[Spec]) -> dict[str, str]:
    own = {one.path[0]: one.option.text for one in own_options(spec)}
    groups = {
        name: f"{one.metadata[GROUP].__name__}: see there."
        for name, one in spec.__dataclass_fields__.items()
        if GROUP in one.metadata
    }
    return {**own, **groups, "progress": "Told what is going on."}
