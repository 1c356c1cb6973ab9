"""A command's options of the words of a command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import typer

from mergekit_geo.cli.command import Command
from mergekit_geo.cli.options import options_of, parameter, refuse_invalid
from mergekit_geo.config.flags import made
from mergekit_geo.specs.spec import Spec

Asked = TypeVar("Asked", bound=Spec)


def typer_command(spec: type[Spec], act: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
    """A typer command with the options of a command.

    Args:
        spec: Its options.
        act: Called with the values of those that stand on the command line, by name.
    """

    def run(ctx: typer.Context, **values: Any) -> None:
        refuse_invalid(values)
        given = {name: value for name, value in values.items() if _stands(ctx, name)}
        if wrong := spec.misused(given):
            raise typer.BadParameter(wrong.text, param_hint=wrong.flag)
        act(given)

    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *map(parameter, options_of(spec))]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__doc__ = spec.help()
    return run


def parse(spec: type[Asked], words: Sequence[str]) -> Asked:
    """The options that words of a command line give, without doing anything.

    Raises:
        ArgumentError: An invalid value.
        SystemExit: With 2, and what is wrong on stderr, where the words are no command line.

    Example:
        >>> from mergekit_geo.specs.merges import SoupSpec
        >>> parse(SoupSpec, ["a", "b", "-o", "out", "--weights=1,2"]).weights
        (1.0, 2.0)
    """
    found: list[Asked] = []
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    act = lambda given: found.append(asked_of(spec, given))  # noqa: E731
    app.command(cls=Command)(typer_command(spec, act))
    app(list(words), standalone_mode=False)
    return found[0]


def asked_of(spec: type[Asked], given: dict[str, Any]) -> Asked:
    """A command's options of the values of those that were given, by name."""
    return replace(made(spec, given), given=frozenset(given))


def _stands(ctx: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"
