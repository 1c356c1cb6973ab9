"""Commands that write a checkpoint: soup, slerp, point."""

from __future__ import annotations

from typing import Annotated

import typer

from mergekit_geo.cli.options import (
    Along,
    Ending,
    Granularity,
    Method,
    Models,
    OnAntipodal,
    Out,
    Pick,
    parse_weights,
    takes,
)
from mergekit_geo.cli.session import session

Weights = Annotated[
    str | None, typer.Option(help="One per model, such as .5,.3,.2; equal by default.")
]


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
    tolerance: Annotated[
        float, typer.Option(help="Share of the lowest loss that the flattest point may lose.")
    ] = 0.005,
    control: Annotated[
        bool | None,
        typer.Option(
            "--control/--no-control",
            help="Train the ends of a fitted path further, and report them beside it; within the "
            "budget if not said.",
        ),
    ] = None,
    basin: Annotated[
        bool, typer.Option("--basin", help="Leave out models that a barrier parts from the rest.")
    ] = False,
) -> None:
    """Average models: the weighted soup, or the one that loss chooses."""
    with session("soup", options) as current:
        from mergekit_geo.commands.soup import soup as run
        from mergekit_geo.selection.config import Choosing

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
                tolerance=tolerance,
                control=control,
                basin=basin,
            ),
            progress=current.progress(),
            **options.settings(),
        )
        current.show(result.report)
        current.gate(options.require is None or result.is_not_worse, f"--require {options.require}")


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
        from mergekit_geo.commands.slerp import slerp as run

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
        current.gate(options.require is None or result.is_not_worse, f"--require {options.require}")


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
        from mergekit_geo.commands.point import point as run

        result = run(folder, out, t=t, progress=current.progress(), **options.settings())
        current.show(result.report)
        current.gate(options.require is None or result.is_not_worse, f"--require {options.require}")
