"""`geo.landscape`: the loss on a plane through models, or around each of them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.compatibility import preflight
from mergekit_geo.checkpoints.origin import model_entry, provenance
from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.clock import on_one_clock
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.data import EvalData
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.losses import data_entry, loss_entry, plan_losses, run_with
from mergekit_geo.evaluation.study import make_ground, require_measurable
from mergekit_geo.landscapes.config import View
from mergekit_geo.landscapes.plan import check_request, plan_sheets
from mergekit_geo.outputs.folder import LANDSCAPE, MeasuredFolder, measured_folder
from mergekit_geo.progress import Progress, Silent
from mergekit_geo.records.landscape import (
    LandscapeMeasurements,
    MarkEntry,
    ScaleEntry,
    SurfaceEntry,
)
from mergekit_geo.records.report import Report

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.evaluation.losses import Data, LossPlan
    from mergekit_geo.evaluation.points import Walk
    from mergekit_geo.landscapes.planes import Sheet
    from mergekit_geo.records.losses import LossEntry
    from mergekit_geo.tasks.losses import Losses

BUILTIN_TEXT = EvalData()


@dataclass(frozen=True)
class LandscapeResult:
    """The loss on planes in weight space.

    Attributes:
        report: Every number.
        out: The folder with report and pictures, None where none was asked for.
    """

    report: Report
    out: Path | None = None

    @property
    def measurements(self) -> LandscapeMeasurements:
        """The result part of the report."""
        assert isinstance(self.report.result, LandscapeMeasurements)
        return self.report.result

    def __str__(self) -> str:
        from mergekit_geo.views.landscape import landscape_lines

        return "\n".join(landscape_lines(self.measurements))


@on_one_clock
def landscape(
    models: Model | Sequence[Model],
    out: str | Path | None = None,
    *,
    mark: Sequence[Model] = (),
    view: View = View(),
    overwrite: bool = False,
    data: Data = BUILTIN_TEXT,
    train_data: EvalData | None = None,
    compute: Compute = Compute(),
    progress: Progress | None = None,
) -> LandscapeResult:
    """Measure the loss on a grid of a plane in weight space, always on the same examples.

    Three models or more: the plane through the first three (Garipov 2018). Two: the line through
    them and a random direction. One: two random directions, normalised filter by filter (Li 2018),
    or the top eigenvectors of the Hessian. Further models are projected, and told how far they lie
    off. Finished points are kept in the user's cache: an interrupted measurement goes on.

    Args:
        models: One or more folders, Hub ids, or modules.
        out: Folder for `report.json`, numbers and pictures; None writes nothing.
        mark: Further models to mark, such as an output.
        view: Which part of the plane, and how it is shown.
        overwrite: Replace an output folder.
        data: What loss is measured on.
        train_data: What BatchNorm statistics are estimated on at every point.
        compute: How models are run.
        progress: Told what is going on.

    Raises:
        ArgumentError: No models, or some that span no plane.
        DataError: Nothing to measure on, or a model's loss is not a number.
        GeoError: With the reason and the remedy.
    """
    several: list[Any] = list(models) if isinstance(models, list | tuple) else [models]
    check_request(len(several), view)
    with measured_folder(out, LANDSCAPE, overwrite=overwrite) as folder:
        return _landscape(
            several, folder, mark, view, data, train_data, compute, progress or Silent()
        )


def _landscape(
    several: Sequence[Any],
    folder: MeasuredFolder,
    mark: Sequence[Model],
    view: View,
    data: Data,
    train_data: EvalData | None,
    compute: Compute,
    told: Progress,
) -> LandscapeResult:
    began = time.time()
    checkpoints = open_checkpoints([*several, *mark])
    folder.refuse_inputs(checkpoints)
    found = preflight(checkpoints)
    found.require()
    plan = plan_losses(checkpoints, data, compute)
    require_measurable(plan)
    anchors = found.fetch()
    sheets = plan_sheets(anchors, len(several), view, plan, data, compute, told)
    ground = make_ground(
        anchors, plan, data, train_data, compute, told,
        evaluations=len(anchors) + sheets.points, resumable=True,
    )  # fmt: skip
    walk = ground.walk
    ground.tell_where(told)
    reported = _at_models(walk)
    surfaces = [_surface(walk, sheet, view) for sheet in sheets.made(walk.anchors, walk.live)]
    measured = LandscapeMeasurements(
        surfaces=surfaces,
        scale=_scale(surfaces, view),
        losses=_losses(walk, reported, sheets.count, plan),
    )
    require_unchanged(walk.anchors)
    remarks = [*sheets.warnings(walk.live), *ground.warnings, *walk.evaluator.warnings]
    report = Report(
        command="landscape",
        output=str(folder.out) if folder.out else None,
        models=[model_entry(checkpoint) for checkpoint in checkpoints],
        settings={
            "view": asdict(view),
            "marked": len(mark),
            "data": asdict(data) if isinstance(data, EvalData) else None,
            "train_data": train_data and asdict(train_data),
            "compute": asdict(compute),
            "alignment": found.notes,
        },
        data=data_entry(data, plan.sample, reported[0]),
        result=measured,
        warnings=[*found.warnings, *remarks],
        provenance=provenance(began, *run_with(walk.live.model)),
    )
    folder.write(report)
    return LandscapeResult(report, folder.out)


def _at_models(walk: Walk) -> list[Losses]:
    found = [walk.at_model(i) for i in range(len(walk.anchors))]
    for anchor, losses in zip(walk.anchors, found, strict=True):
        if not math.isfinite(losses.mean):
            raise DataError("the loss is not a number", where=anchor.name)
    return found


def _losses(walk: Walk, found: Sequence[Losses], spanning: int, plan: LossPlan) -> list[LossEntry]:
    return [
        loss_entry(anchor.name, "parent" if i < spanning else "reference", losses, plan.sample)
        for i, (anchor, losses) in enumerate(zip(walk.anchors, found, strict=True))
    ]


def _surface(walk: Walk, sheet: Sheet, view: View) -> SurfaceEntry:
    """Measure the loss on a plane's grid."""
    from mergekit_geo.landscapes.grid import scan

    def measure(number: int, x: float, y: float) -> Losses:
        rule = sheet.plane.rule(x, y)
        model = sheet.model_at(rule)
        if model is not None:
            return walk.at_model(model)
        title = f"point {number} of {view.points}"
        return walk.at(title, sheet.at(rule), f"{sheet.key} {sheet.models} {rule.weights!r}")

    found = scan(sheet.x, sheet.y, measure)
    return SurfaceEntry(
        kind=sheet.kind,
        axes=list(sheet.axes),
        cosine=sheet.plane.cosine,
        x=found.x.tolist(),
        y=found.y.tolist(),
        loss=found.loss_yx.tolist(),
        metric=None if found.metric_yx is None else found.metric_yx.tolist(),
        marks=[
            MarkEntry(
                model=walk.anchors[number].name,
                spans=number in sheet.models,
                loss=walk.at_model(number).mean,
                x=place.x,
                y=place.y,
                off_plane=place.off,
            )
            for number, place in sheet.places.items()
        ],
    )


def _scale(surfaces: Sequence[SurfaceEntry], view: View) -> ScaleEntry:
    """The colour scale, one for all surfaces."""
    rows = (row for surface in surfaces for row in surface.loss)
    known = [loss for row in rows for loss in row if loss is not None]
    low = view.low if view.low is not None else min(known, default=0.0)
    high = view.high if view.high is not None else max(known, default=1.0)
    return ScaleEntry(low=low, high=high if high > low else low + 1.0, log=view.log)
