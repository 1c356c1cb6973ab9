"""A command that refuses what the parser would drop without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption


class Commands(TyperGroup):
    """The commands; a merge method that is taken for one is told how it is reached."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; the error has a hint where a merge method is named."""
        with _hint_at_methods(args[:1]):
            return super().resolve_command(ctx, args)


class Command(TyperCommand):
    """A command whose options of one value are given once at most.

    The parser keeps the last value of an option and drops the others. Flags may be repeated, as
    nothing is lost, but for those that have an opposite.
    """

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Refuse what is given twice, then parse as usual."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        if not any(parameter.is_eager for parameter in order):  # such as --help
            _refuse_repeated(ctx, Counter(order))
        with _hint_at_methods(list(args)):  # the parser empties its list
            return super().parse_args(ctx, args)


@contextmanager
def _hint_at_methods(words: Sequence[str]) -> Iterator[None]:
    """Say, of an invalid word that is a merge method, which command takes it."""
    try:
        yield
    except Exception as error:
        from mergekit_geo.merging.method_help import merge_command

        message = getattr(error, "message", "")
        named = [word.removeprefix("--method=") for word in words]
        hints = [merge_command(name) for name in named if f"'{name}'" in message]
        if any(hints):
            error.message = f"{message} It is a merge method: {max(hints)}"  # type: ignore[attr-defined]
        raise


def _refuse_repeated(ctx: typer.Context, times: Mapping[Any, int]) -> None:
    for option, count in times.items():
        if count > 1 and isinstance(option, TyperOption) and _takes_one(option):
            said = f"given {count} times, and takes one value"
            raise typer.BadParameter(said, ctx=ctx, param=option)


def _takes_one(option: TyperOption) -> bool:
    return not option.multiple and not (option.is_flag and not option.secondary_opts)
