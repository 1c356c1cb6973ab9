"""The command that fits a path."""

from __future__ import annotations

from typing import Annotated

import typer

from mergekit_geo.cli.options import (
    Kind,
    Measuring,
    Models,
    Optimizer,
    Out,
    Overwrite,
    Processes,
    takes,
)
from mergekit_geo.cli.processes import relaunch
from mergekit_geo.cli.session import session


@takes(Measuring)
def path(
    options: Measuring,
    models: Models,
    out: Out,
    kind: Annotated[
        Kind, typer.Option(help="Bezier curve, straight pieces, or AutoNEB.")
    ] = Kind.BEZIER,
    bends: Annotated[
        int | None, typer.Option(help="Between the ends: 1, or 3 to begin with for neb.")
    ] = None,
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
    with session("path", options) as current:
        relaunch(num_processes)
        from mergekit_geo.commands.path import fit_path as run
        from mergekit_geo.connectivity.config import Fitting

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
