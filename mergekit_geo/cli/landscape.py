"""The command that draws the loss on a plane."""

from __future__ import annotations

from typing import Annotated

import typer

from mergekit_geo.cli.options import Measuring, Models, Overwrite, Processes, ReportOut, takes
from mergekit_geo.cli.processes import relaunch
from mergekit_geo.cli.session import session


@takes(Measuring)
def landscape(
    options: Measuring,
    models: Models,
    out: ReportOut = None,
    mark: Annotated[
        list[str] | None,
        typer.Option(help="A further model to mark, such as an output; may be given again."),
    ] = None,
    grid: Annotated[int, typer.Option(help="Points along each axis.")] = 21,
    each: Annotated[
        bool, typer.Option("--each", help="A landscape around every model, on one colour scale.")
    ] = False,
    hessian_directions: Annotated[
        bool,
        typer.Option("--hessian-directions", help="Along the Hessian's top two eigenvectors."),
    ] = False,
    radius: Annotated[
        float | None,
        typer.Option(help="Around one model, in filter norms (1); of eigenvectors, a distance."),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Beyond two or three models, as a share of their extent.")
    ] = 1 / 3,
    colours: Annotated[
        tuple[float, float] | None,
        typer.Option("--range", help="Ends of the colour scale, the same for several pictures."),
    ] = None,
    log: Annotated[
        bool, typer.Option("--log", help="Colours in the logarithm of the height above the lowest.")
    ] = False,
    overwrite: Overwrite = False,
    num_processes: Processes = 1,
) -> None:
    """Draw the loss on a plane through three models, beside a line, or around one model."""
    with session("landscape", options) as current:
        relaunch(num_processes)
        from mergekit_geo.commands.landscape import landscape as run
        from mergekit_geo.landscapes.config import View

        low, high = colours or (None, None)
        result = run(
            models,
            out,
            mark=mark or [],
            view=View(
                grid=grid,
                margin=margin,
                radius=radius,
                each=each,
                hessian=hessian_directions,
                low=low,
                high=high,
                log=log,
            ),
            overwrite=overwrite,
            progress=current.progress(),
            **options.settings(),
        )
        current.show(result.report)
