"""A command that refuses what the parser would drop without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption


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
        return super().parse_args(ctx, args)


def _refuse_repeated(ctx: typer.Context, times: Mapping[Any, int]) -> None:
    for option, count in times.items():
        if count > 1 and isinstance(option, TyperOption) and _takes_one(option):
            said = f"given {count} times, and takes one value"
            raise typer.BadParameter(said, ctx=ctx, param=option)


def _takes_one(option: TyperOption) -> bool:
    return not option.multiple and not (option.is_flag and not option.secondary_opts)
