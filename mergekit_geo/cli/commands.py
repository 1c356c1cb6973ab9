"""The commands of `geo-merge`: each is made when it is asked for, and does what its options ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import typer
from typer.core import TyperGroup

from mergekit_geo.cli.parsing import Command, asked_of, hint_at_methods, typer_command
from mergekit_geo.cli.processes import relaunch
from mergekit_geo.cli.session import session
from mergekit_geo.config.flags import made
from mergekit_geo.specs.panels import Verbosity
from mergekit_geo.specs.spec import Spec
from mergekit_geo.specs.table import COMMANDS, spec_of, work_of


class Commands(TyperGroup):
    """The commands by name; their options are read when one of them is run or asked for help.

    A merge method that is taken for a command is told how it is reached.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, and make it."""
        with hint_at_methods(args[:1]):
            name, _, others = super().resolve_command(ctx, args)
        return name, name and command_named(name), others


app = typer.Typer(
    cls=Commands,
    name="geo-merge",
    help="Merge neural-network checkpoints with evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _name, (_, _summary) in COMMANDS.items():
    app.command(name=_name, help=_summary)(lambda: None)


def command_named(name: str) -> Any:
    """A command of the table, with its options."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    _, summary = COMMANDS[name]
    alone.command(name=name, cls=Command)(command_of(spec_of(name), summary))
    return typer.main.get_command(alone)


def command_of(spec: type[Spec], summary: str) -> Callable[..., None]:
    """The command that does what its options ask, shows the result, and exits by it.

    Args:
        spec: Its options.
        summary: What it does, in one sentence.
    """

    def act(given: dict[str, Any]) -> None:
        with session(spec.command, made(Verbosity, given), again=spec.again) as current:
            relaunch(given.get("num_processes", 1))
            asked = replace(asked_of(spec, given), progress=current.progress())
            result = work_of(spec)(asked)
            current.show(result.report)
            current.gate(asked.unmet(result), spec.unmet_code)

    return typer_command(spec, act, spec.help(summary))
