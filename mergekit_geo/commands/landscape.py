"""`geo.landscape`: the loss on a plane through models, or around each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.origin import model_entries
from mergekit_geo.checkpoints.reference import several
from mergekit_geo.checkpoints.runs import Run, checkpoints_of, refuse_models
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.commands._run import Findings, Work, command
from mergekit_geo.config.measures import LandscapeConfig
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.losses import data_entry, loss_entry, run_with
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.evaluation.study import Study
from mergekit_geo.landscapes.grid import scan
from mergekit_geo.landscapes.plan import check_request, plan_landscape
from mergekit_geo.landscapes.planes import PlaneGrid
from mergekit_geo.outputs.kind import LANDSCAPE
from mergekit_geo.outputs.output import Output
from mergekit_geo.records.landscape import (
    LandscapeMeasurements,
    LandscapeSetEntry,
    MarkEntry,
    ScaleEntry,
    SurfaceEntry,
)
from mergekit_geo.records.losses import LossEntry
from mergekit_geo.specs.measures import LandscapeSpec
from mergekit_geo.specs.spec import repeated
from mergekit_geo.tasks.losses import Losses

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model


@command(LandscapeSpec)
def landscape(asked: LandscapeSpec) -> Work:
    """Measure the loss on a grid of a plane in weight space, always on the same examples.

    Three models or more: the plane through the first three (Garipov 2018). Two: the line through
    them and a random direction. One: two random directions, normalised filter by filter (Li 2018),
    or the top eigenvectors of the Hessian. With `checkpoints`, or `trajectory`: the plane of the
    two largest principal directions of a training's checkpoints, and the path on it (Li 2018).
    Further models are projected, and told how far they lie off. Finished points are kept in the
    user's cache: an interrupted measurement goes on.

    Raises:
        ArgumentError: No models, or some that span no plane.
        DataError: Nothing to measure on, or a model's loss is not a number.
        GeoError: With the reason and the remedy.

    Example:
        ```python
        import mergekit_geo as geo

        found = geo.landscape(
            ["a", "b", "c"],
            "plane",
            data=geo.EvalData("held-out.jsonl"),
            view=geo.LandscapeConfig(grid=5),
        )
        print(found.measurements.scale.low, found.measurements.scale.high)
        ```
    """
    return Work(asked, lambda output: _landscape(asked, output), LANDSCAPE)


def _landscape(asked: LandscapeSpec, output: Output) -> Findings:
    mark, view = asked.mark, asked.view
    models, runs = _models(asked)
    check_request(len(models), view, follows=bool(runs))
    study = Study.open([*models, *mark], asked, output)
    planned = plan_landscape(study, len(models), view, runs)
    evaluator = PointEvaluator.open(study, len(study.anchors) + planned.points)
    evaluator.tell_where()
    reported = [_at_models(one) for one in evaluator.every]
    surfaces: list[list[SurfaceEntry]] = [[] for _ in evaluator.every]
    for grid in planned.made(evaluator.anchors, evaluator.live):
        for one, own in zip(evaluator.every, surfaces, strict=True):
            own.append(_surface(one, evaluator, grid, view))
    sets = {
        one.study.name: LandscapeSetEntry(
            data=data_entry(one.study, losses[0]),
            weight=one.study.weight,
            surfaces=own,
            scale=_scale(own, view),
            losses=_losses(one, losses, planned.count),
        )
        for one, losses, own in zip(evaluator.every, reported, surfaces, strict=True)
    }
    first = next(iter(sets.values()))
    measured = LandscapeMeasurements(
        surfaces=first.surfaces, scale=first.scale, losses=first.losses,
        sets=sets if evaluator.further else {},
    )  # fmt: skip
    require_unchanged(evaluator.anchors)
    remarks = [*planned.warnings(evaluator.live), *evaluator.all_warnings]
    return Findings(
        measured,
        model_entries(study.models),
        run_with(evaluator.live.model),
        settings={"marked": len(mark), "alignment": study.checked.notes},
        data=first.data,
        warnings=[*study.checked.warnings, *remarks],
        again=repeated(asked),
    )


def _models(asked: LandscapeSpec) -> tuple[list[Model], Sequence[Run]]:
    """The models that are looked at, and the trainings that the plane is to follow."""
    if asked.checkpoints:
        refuse_models(asked.models, "mark them on the plane by --mark")
        return checkpoints_of(asked.checkpoints)
    return (
        checkpoints_of(asked.models)
        if asked.trajectory
        else (several(asked.models, "look around"), ())
    )


def _at_models(evaluator: PointEvaluator) -> list[Losses]:
    found = [evaluator.at_model(i) for i in range(len(evaluator.anchors))]
    for anchor, losses in zip(evaluator.anchors, found, strict=True):
        if not math.isfinite(losses.mean):
            raise DataError("the loss is not a number", where=anchor.name)
    return found


def _losses(evaluator: PointEvaluator, found: Sequence[Losses], spanning: int) -> list[LossEntry]:
    sample = evaluator.study.sample
    return [
        loss_entry(anchor.name, "parent" if i < spanning else "reference", losses, sample)
        for i, (anchor, losses) in enumerate(zip(evaluator.anchors, found, strict=True))
    ]


def _surface(
    evaluator: PointEvaluator, every: PointEvaluator, plane_grid: PlaneGrid, view: LandscapeConfig
) -> SurfaceEntry:
    """Measure the loss on a plane's grid.

    Args:
        evaluator: On the set that is meant.
        every: On all sets, which are measured at a point before the module moves on.
        plane_grid: The grid.
        view: What part of the plane is looked at.
    """

    def measure(number: int, x: float, y: float) -> Losses:
        rule = plane_grid.plane.rule(x, y)
        model = plane_grid.model_at(rule)
        if model is not None:
            return evaluator.at_model(model)
        point = plane_grid.at(rule, f"point {number} of {view.points}")
        every.at_all(point)
        return evaluator.at(point)

    found = scan(plane_grid.x, plane_grid.y, measure)
    return SurfaceEntry(
        kind=plane_grid.kind,
        trajectory=plane_grid.trajectory,
        axes=list(plane_grid.axes),
        cosine=plane_grid.plane.cosine,
        x=found.x.tolist(),
        y=found.y.tolist(),
        loss=found.loss_yx.tolist(),
        metric=None if found.metric_yx is None else found.metric_yx.tolist(),
        marks=[
            MarkEntry(
                model=evaluator.anchors[number].name,
                spans=number in plane_grid.models,
                loss=evaluator.at_model(number).mean,
                x=place.x,
                y=place.y,
                off_plane=place.off,
            )
            for number, place in plane_grid.places.items()
        ],
    )


def _scale(surfaces: Sequence[SurfaceEntry], view: LandscapeConfig) -> ScaleEntry:
    """The colour scale, one for all surfaces."""
    rows = (row for surface in surfaces for row in surface.loss)
    known = [loss for row in rows for loss in row if loss is not None]
    low = view.low if view.low is not None else min(known, default=0.0)
    high = view.high if view.high is not None else max(known, default=1.0)
    return ScaleEntry(low=low, high=high if high > low else low + 1.0, log=view.log)
