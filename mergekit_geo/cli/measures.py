"""Commands that measure: barrier, sharpness, check."""

from __future__ import annotations

from typing import Annotated

import typer

from mergekit_geo.cli.options import (
    Level,
    Measuring,
    Models,
    Overwrite,
    Processes,
    ReportOut,
    Talk,
    takes,
)
from mergekit_geo.cli.processes import relaunch
from mergekit_geo.cli.session import FAILED, session


@takes(Measuring)
def barrier(
    options: Measuring,
    models: Models,
    out: ReportOut = None,
    along: Annotated[
        list[str] | None,
        typer.Option(
            help="linear, slerp, a fitted path's DIR, or, with --train-data, bezier, polygon or "
            "neb; may be given again."
        ),
    ] = None,
    points: Annotated[int, typer.Option(help="Even points before the maximum is sought.")] = 11,
    overwrite: Overwrite = False,
    fail_above: Annotated[
        float | None, typer.Option(help="Exit 3 if a barrier is significantly higher than this.")
    ] = None,
    num_processes: Processes = 1,
) -> None:
    """Measure the loss on the way between models."""
    with session("barrier", options) as current:
        relaunch(num_processes)
        from mergekit_geo.commands.barrier import barrier as run

        result = run(
            models,
            out,
            along=along or ["linear"],
            points=points,
            overwrite=overwrite,
            progress=current.progress(),
            **options.settings(),
        )
        current.show(result.report)
        current.gate(
            fail_above is None or not result.exceeds(fail_above), f"--fail-above {fail_above}"
        )


@takes(Measuring)
def sharpness(
    options: Measuring,
    models: Models,
    out: ReportOut = None,
    level: Annotated[
        Level, typer.Option(help="full adds trace, spectrum, λ_min and ascents.")
    ] = Level.QUICK,
    rho: Annotated[float, typer.Option(help="Radius of SAM's ball in weight space.")] = 0.05,
    overwrite: Overwrite = False,
    num_processes: Processes = 1,
) -> None:
    """Measure how curved the loss is where models stand."""
    with session("sharpness", options) as current:
        relaunch(num_processes)
        from mergekit_geo.commands.sharpness import sharpness as run
        from mergekit_geo.curvature.levels import Radii

        settings = options.settings()
        settings.pop("train_data")
        result = run(
            models,
            out,
            level=level.value,
            radii=Radii(rho=rho),
            overwrite=overwrite,
            progress=current.progress(),
            **settings,
        )
        current.show(result.report)


@takes(Talk)
def check(options: Talk, models: Models) -> None:
    """Tell whether models can be merged, without downloading weights."""
    with session("check", options) as current:
        from mergekit_geo.commands.check import check as run

        result = run(models)
        current.show(result.report)
        if not result.compatible:
            raise typer.Exit(FAILED)
