"""The command that follows a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mergekit_geo.cli.options import Ending, takes
from mergekit_geo.cli.session import session


@takes(Ending)
def run(
    options: Ending,
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder to write; not needed with --dry-run."),
    ] = None,
    members_in: Annotated[
        Path | None,
        typer.Option(help="Folder of members that are trained first; OUT.members if not said."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")
    ] = False,
) -> None:
    """Merge as a recipe says it: mergekit's format, and keys of our own."""
    if out is None and not dry_run:
        raise typer.BadParameter("say where to write, or --dry-run", param_hint="--out")
    with session("run", options) as current:
        if dry_run:
            from mergekit_geo.recipes.dry_run import dry_run as plan

            current.show(plan(recipe, out, output=options.settings()["output"]).report)
            return
        from mergekit_geo.recipes.run import run as follow

        result = follow(
            recipe, out, members_in=members_in, progress=current.progress(), **options.settings()
        )
        current.show(result.report)
        current.gate(options.require is None or result.is_not_worse)
