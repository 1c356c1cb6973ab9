"""`geo-merge`: one thin command per workflow."""

from __future__ import annotations

from typing import Annotated

import typer

from mergekit_geo.cli.options import (
    Along,
    Ending,
    Granularity,
    Kind,
    Level,
    Measuring,
    Method,
    Models,
    OnAntipodal,
    Optimizer,
    Out,
    Overwrite,
    Pick,
    Processes,
    ReportOut,
    Talk,
    parse_weights,
    takes,
)
from mergekit_geo.cli.processes import relaunch
from mergekit_geo.cli.session import FAILED, session

app = typer.Typer(
    name="geo-merge",
    help="Merge neural-network checkpoints with evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Weights = Annotated[
    str | None, typer.Option(help="One per model, such as .5,.3,.2; equal by default.")
]


@app.command()
@takes(Ending)
def soup(
    options: Ending,
    models: Models,
    out: Out,
    weights: Weights = None,
    no_normalize: Annotated[
        bool, typer.Option("--no-normalize", help="Use the weights as they are.")
    ] = False,
    method: Annotated[
        Method, typer.Option(help="greedy and learned choose by loss.")
    ] = Method.UNIFORM,
    with_replacement: Annotated[
        bool, typer.Option("--with-replacement", help="Greedy may add a model again.")
    ] = False,
    granularity: Annotated[
        Granularity, typer.Option(help="What shares a learned coefficient.")
    ] = Granularity.MODEL,
    steps: Annotated[int, typer.Option(help="Of a learned soup's optimiser.")] = 50,
    along: Along = None,
    pick: Annotated[
        Pick | None, typer.Option(help="Which point of the path; best by loss if not said.")
    ] = None,
    average_points: Annotated[int, typer.Option(help="Points that a mean is over.")] = 9,
    basin: Annotated[
        bool, typer.Option("--basin", help="Leave out models that a barrier parts from the rest.")
    ] = False,
) -> None:
    """Average models: the weighted soup, or the one that loss chooses."""
    with session("soup", options) as current:
        from mergekit_geo.workflows.choose import Choosing
        from mergekit_geo.workflows.soup import soup as run

        result = run(
            models,
            out,
            weights=parse_weights(weights),
            normalize=not no_normalize,
            choosing=Choosing(
                method=method.value,
                with_replacement=with_replacement,
                granularity=granularity.value,
                steps=steps,
                along=along,
                pick=pick and pick.value,
                average_points=average_points,
                basin=basin,
            ),
            progress=current.progress(),
            **options.settings(),
        )
        current.show(result.report)
        current.gate(options.require is None or result.is_not_worse)


@app.command()
@takes(Ending)
def slerp(
    options: Ending,
    models: Models,
    out: Out,
    t: Annotated[
        float | None, typer.Option("--t", help="Position between two models; 0.5 by default.")
    ] = None,
    weights: Weights = None,
    antipodal: Annotated[
        OnAntipodal, typer.Option(help="What to do with opposite tensors.")
    ] = OnAntipodal.ERROR,
) -> None:
    """Merge two models along the arc between them, or more into their Karcher mean."""
    with session("slerp", options) as current:
        from mergekit_geo.workflows.slerp import slerp as run

        result = run(
            models,
            out,
            t=t,
            weights=parse_weights(weights),
            antipodal=antipodal.value,
            progress=current.progress(),
            **options.settings(),
        )
        current.show(result.report)
        current.gate(options.require is None or result.is_not_worse)


@app.command()
@takes(Measuring)
def barrier(
    options: Measuring,
    models: Models,
    out: ReportOut = None,
    along: Annotated[
        list[str] | None,
        typer.Option(
            help="linear, slerp, a fitted path's DIR, or, with --train-data, bezier or polygon; "
            "may be given again."
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
    relaunch(num_processes)
    with session("barrier", options) as current:
        from mergekit_geo.workflows.barrier import barrier as run

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
        current.gate(fail_above is None or not result.exceeds(fail_above))


@app.command()
@takes(Measuring)
def path(
    options: Measuring,
    models: Models,
    out: Out,
    kind: Annotated[Kind, typer.Option(help="Bezier curve, or straight pieces.")] = Kind.BEZIER,
    bends: Annotated[int, typer.Option(help="Between the ends.")] = 1,
    steps: Annotated[
        int | None, typer.Option(help="Of the optimizer; until the held-out top falls no more.")
    ] = None,
    optimizer: Annotated[Optimizer, typer.Option(help="What fits the bends.")] = Optimizer.ADAMW,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Learning rate; by the size of the model if not.")
    ] = None,
    train_batch_size: Annotated[int, typer.Option(help="Examples of a batch.")] = 32,
    gradient_accumulation: Annotated[int, typer.Option(help="Batches of a step.")] = 1,
    restarts: Annotated[int, typer.Option(help="Seeds; the best fit is kept.")] = 1,
    bf16: Annotated[bool, typer.Option("--bf16", help="Run under bfloat16 autocast.")] = False,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, more time.")
    ] = False,
    overwrite: Overwrite = False,
    num_processes: Processes = 1,
) -> None:
    """Fit a curve of low loss between two models."""
    relaunch(num_processes)
    with session("path", options) as current:
        from mergekit_geo.connectivity.settings import Fitting
        from mergekit_geo.workflows.path import fit_path as run

        result = run(
            models,
            out,
            fitting=Fitting(
                kind=kind.value,
                bends=bends,
                steps=steps,
                optimizer=optimizer.value,
                learning_rate=lr,
                batch_size=train_batch_size,
                accumulation=gradient_accumulation,
                restarts=restarts,
                bf16=bf16,
                gradient_checkpointing=gradient_checkpointing,
            ),
            seed=options.seed,
            overwrite=overwrite,
            progress=current.progress(),
            **options.settings(),
        )
        current.show(result.report)


@app.command()
@takes(Ending)
def point(
    options: Ending,
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Of a fitted path.")],
    out: Out,
    t: Annotated[
        float | None, typer.Option("--t", help="From 0 to 1; the lowest loss if not said.")
    ] = None,
) -> None:
    """Write a checkpoint from a fitted path."""
    with session("point", options) as current:
        from mergekit_geo.workflows.point import point as run

        result = run(folder, out, t=t, progress=current.progress(), **options.settings())
        current.show(result.report)
        current.gate(options.require is None or result.is_not_worse)


@app.command()
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
    relaunch(num_processes)
    with session("sharpness", options) as current:
        from mergekit_geo.curvature.levels import Radii
        from mergekit_geo.workflows.sharpness import sharpness as run

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


@app.command()
@takes(Talk)
def check(options: Talk, models: Models) -> None:
    """Tell whether models can be merged, without downloading weights."""
    with session("check", options) as current:
        from mergekit_geo.workflows.check import check as run

        result = run(models)
        current.show(result.report)
        if not result.compatible:
            raise typer.Exit(FAILED)


def main() -> None:
    """Entry point of the `geo-merge` command."""
    app()
