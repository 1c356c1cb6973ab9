"""The commands of `geo-merge`: each is made when it is asked for, and does what its options ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import typer
from typer.core import TyperGroup

from mergekit_geo.cli.help import PROGRAM, SUMMARY, columns, program_help
from mergekit_geo.cli.parsing import Command, asked_of, typer_command
from mergekit_geo.cli.processes import relaunch
from mergekit_geo.cli.session import session
from mergekit_geo.cli.usage import MISUSED, OneLine
from mergekit_geo.config.flags import made
from mergekit_geo.specs.panels import Verbosity
from mergekit_geo.specs.spec import Spec
from mergekit_geo.specs.table import COMMANDS, spec_of, work_of


class Commands(OneLine, TyperGroup):  # type: ignore[misc]
    """The commands by name; their options are read when one of them is run or asked for help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options of the program, which are flags: a None would load pydantic."""
        for one in self.get_params(ctx):
            one.default = False
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, and make it."""
        name, _, others = super().resolve_command(ctx, args)
        return name, name and command_named(name), others

    def named(self, words: Sequence[str]) -> str:
        """The first of the words, if it is a command."""
        return next(iter(COMMANDS.keys() & words[:1]), "")

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        own = [(", ".join(one.opts), getattr(one, "help", "")) for one in self.params]
        formatter.write(program_help(own, columns()))


app = typer.Typer(
    cls=Commands,
    name=PROGRAM,
    help=SUMMARY,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def program(
    ctx: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """What the program does without a command."""
    if version:
        from mergekit_geo import __version__

        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(MISUSED)


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

    return typer_command(spec, act, summary)
