"""A command's options of the words of a command line."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from textwrap import shorten
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperOption

from mergekit_geo.cli.help import columns, command_help
from mergekit_geo.cli.options import parameter, refuse_invalid
from mergekit_geo.cli.usage import OneLine, refuse_spaces, spread
from mergekit_geo.config.flags import made
from mergekit_geo.specs.panels import options_of
from mergekit_geo.specs.spec import Spec

Asked = TypeVar("Asked", bound=Spec)
MENU = 50
"""Characters of an option's text in completion."""


class Command(OneLine, TyperCommand):  # type: ignore[misc]
    """A command whose options of one value are given once at most.

    The parser keeps the last value of an option and drops the others. Flags may be repeated, as
    nothing is lost, but for those that have an opposite.
    """

    @property
    def spec(self) -> type[Spec]:
        """The Spec that declares this command's options."""
        found: type[Spec] = self.callback.spec  # type: ignore[union-attr]
        return found

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Refuse numbers with spaces between and what is given twice, then parse as usual."""
        args = spread({one.option.flag for one in options_of(self.spec) if one.option.greedy}, args)
        if not {"-h", "--help"} & set(args):
            several = {one.option.flag for one in options_of(self.spec) if one.kind == "numbers"}
            refuse_spaces(several, args)
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        if not any(parameter.is_eager for parameter in order):  # such as --help
            _refuse_repeated(ctx, Counter(order))
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Options of the command, each with what fits into a line of a shell's menu."""
        found = super().shell_complete(ctx, incomplete)
        for one in found:
            one.help = one.help and shorten(one.help, MENU, placeholder=" ...")
        return found

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help that the options make."""
        formatter.write(command_help(self.spec, self.help or "", columns()))


def _refuse_repeated(ctx: typer.Context, times: Mapping[Any, int]) -> None:
    for option, count in times.items():
        if count > 1 and isinstance(option, TyperOption) and _takes_one(option):
            said = f"given {count} times, and takes one value"
            raise typer.BadParameter(said, ctx=ctx, param=option)


def _takes_one(option: TyperOption) -> bool:
    return not option.multiple and not (option.is_flag and not option.secondary_opts)


def typer_command(
    spec: type[Spec], act: Callable[[dict[str, Any]], None], text: str = ""
) -> Callable[..., None]:
    """A typer command with the options of a command.

    Args:
        spec: Its options.
        act: Called with the values of those that stand on the command line, by name.
        text: What `--help` says of it.
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
    run.__doc__, run.spec = text, spec  # type: ignore[attr-defined]
    return run


def parse(spec: type[Asked], words: Sequence[str]) -> Asked:
    """The options that words of a command line give, without doing anything.

    Raises:
        ArgumentError: An invalid value.
        typer.BadParameter: The words are no command line.

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
