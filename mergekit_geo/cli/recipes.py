"""The command that follows a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mergekit_geo.cli.options import Ending, takes
from mergekit_geo.cli.session import session


@takes(Ending)
def run(
    options: Ending,
    ctx: typer.Context,
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
        said = options.settings() | _said(ctx, options)
        if dry_run:
            from mergekit_geo.recipes.dry_run import dry_run as plan

            planned = {key: said[key] for key in ("output", "data", "seed", "meant")}
            current.show(plan(recipe, out, **planned).report)
            return
        from mergekit_geo.recipes.run import run as follow

        result = follow(recipe, out, members_in=members_in, progress=current.progress(), **said)
        current.show(result.report)
        current.gate(options.require is None or result.is_not_worse, f"--require {options.require}")


def _said(ctx: typer.Context, options: Ending) -> dict[str, Any]:
    """What goes before the recipe, though it be the default: what stands on the command line."""

    def stands(name: str) -> bool:
        source = ctx.get_parameter_source(name)
        return source is not None and source.name != "DEFAULT"

    return {
        "sharpness": options.sharpness.value if stands("sharpness") else None,
        "seed": options.seed if stands("seed") else None,
        "meant": ["loss_on"] if stands("loss_on") else [],
    }
