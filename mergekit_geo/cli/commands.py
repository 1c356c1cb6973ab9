"""The commands of `geo-merge`: one thin command per workflow."""

from __future__ import annotations

import typer

from mergekit_geo.cli.command import Command
from mergekit_geo.cli.finetune import finetune
from mergekit_geo.cli.hub import push
from mergekit_geo.cli.landscape import landscape
from mergekit_geo.cli.measures import barrier, check, sharpness
from mergekit_geo.cli.merges import point, slerp, soup
from mergekit_geo.cli.paths import path
from mergekit_geo.cli.recipes import run

app = typer.Typer(
    name="geo-merge",
    help="Merge neural-network checkpoints with evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = (
    soup,
    slerp,
    barrier,
    path,
    point,
    sharpness,
    landscape,
    finetune,
    check,
    push,
    run,
)
"""All commands, in the order of `--help`."""

for _command in COMMANDS:
    app.command(cls=Command)(_command)
