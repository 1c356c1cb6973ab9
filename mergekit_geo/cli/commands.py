"""The commands of `geo-merge`: each does what its options ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import typer

from mergekit_geo.cli.command import Command, Commands
from mergekit_geo.cli.options import Talk
from mergekit_geo.cli.parsing import asked_of, typer_command
from mergekit_geo.cli.processes import relaunch
from mergekit_geo.cli.session import session
from mergekit_geo.config.flags import made
from mergekit_geo.specs.spec import Spec
from mergekit_geo.specs.table import COMMANDS, work_of

app = typer.Typer(
    cls=Commands,
    name="geo-merge",
    help="Merge neural-network checkpoints with evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command_of(spec: type[Spec]) -> Callable[..., None]:
    """The command that does what its options ask, shows the result, and exits by it."""

    def act(given: dict[str, Any]) -> None:
        with session(spec.command, made(Talk, given), again=spec.again) as current:
            relaunch(given.get("num_processes", 1))
            asked = replace(asked_of(spec, given), progress=current.progress())
            result = work_of(spec)(asked)
            current.show(result.report)
            current.gate(asked.unmet(result), spec.unmet_code)

    return typer_command(spec, act)


for _spec in COMMANDS:
    app.command(name=_spec.command, cls=Command)(command_of(_spec))
