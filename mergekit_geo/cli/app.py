"""`geo-merge`: one thin command per workflow."""

from __future__ import annotations

from typing import Annotated

import typer

from mergekit_geo.cli.options import (
    Ending,
    Models,
    OnAntipodal,
    Out,
    Talk,
    parse_weights,
    takes,
)
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
) -> None:
    """Average models: the weighted soup."""
    with session("soup", options) as current:
        from mergekit_geo.workflows.soup import soup as run

        result = run(
            models,
            out,
            weights=parse_weights(weights),
            normalize=not no_normalize,
            progress=current.progress(),
            **options.settings(),
        )
        current.show(result.report)


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
