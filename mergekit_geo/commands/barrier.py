"""`geo.barrier`: the loss on the way between models."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.compatibility import preflight
from mergekit_geo.checkpoints.origin import model_entry, provenance
from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.clock import on_one_clock
from mergekit_geo.commands.fitting import fitting_to
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.data import EvalData
from mergekit_geo.connectivity.pairs import (
    PAIR,
    barrier_entry,
    basins_of,
    matrix_of,
    measure_pairs,
    threshold_of,
)
from mergekit_geo.connectivity.path_folder import named_route
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.losses import data_entry, loss_entry, plan_losses, run_with
from mergekit_geo.evaluation.study import Ground, make_ground, require_measurable
from mergekit_geo.limits import check_count
from mergekit_geo.outputs.folder import BARRIER, MeasuredFolder, measured_folder
from mergekit_geo.progress import Progress, Silent
from mergekit_geo.records.barrier import BarrierMeasurements
from mergekit_geo.records.losses import LossEntry
from mergekit_geo.records.report import Report

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.connectivity.paths import Route
    from mergekit_geo.evaluation.evaluation import Sample
    from mergekit_geo.evaluation.losses import Data
    from mergekit_geo.evaluation.points import Walk
    from mergekit_geo.tasks.losses import Losses

BUILTIN_TEXT = EvalData()
LINEAR = ("linear",)
MOST_POINTS = 20


@dataclass(frozen=True)
class BarrierResult:
    """What lies between models.

    Attributes:
        report: Every number.
        out: The folder with report and pictures, None where none was asked for.
    """

    report: Report
    out: Path | None = None

    @property
    def measurements(self) -> BarrierMeasurements:
        """The result part of the report."""
        assert isinstance(self.report.result, BarrierMeasurements)
        return self.report.result

    def exceeds(self, limit: float) -> bool:
        """Whether some barrier is higher than a limit: its interval's lower end, if it has one.

        A path on which no loss could be measured counts as too high.
        """
        heights = [
            pair.barrier.value if pair.barrier.low is None else pair.barrier.low
            for pair in self.measurements.pairs
        ]
        return any(height is None or height > limit for height in heights)

    def __str__(self) -> str:
        return "\n".join(
            f"{pair.first} to {pair.second}, {pair.along}: {pair.verdict}"
            for pair in self.measurements.pairs
        )


@on_one_clock
def barrier(
    models: Sequence[Model],
    out: str | Path | None = None,
    *,
    along: Sequence[str] = LINEAR,
    points: int = 11,
    overwrite: bool = False,
    data: Data = BUILTIN_TEXT,
    train_data: Data = None,
    compute: Compute = Compute(),
    progress: Progress | None = None,
) -> BarrierResult:
    """Measure the loss along paths between every two models (Entezari 2021, Frankle 2020).

    The t of a barrier is found on one half of the documents and its height measured on the other.
    Finished points are kept in the user's cache: an interrupted measurement goes on.

    Args:
        models: Two or more folders, Hub ids, or modules.
        out: Folder for `report.json`, pictures and CSV; None writes nothing.
        along: Paths: `linear`, `slerp`, the folder of a fitted one, or, between two models and
            with training data, `bezier`, `polygon` or `neb`, which are fitted first.
        points: Even positions measured before the maximum is sought.
        overwrite: Replace an output folder.
        data: What loss is measured on.
        train_data: What BatchNorm statistics are estimated on at every point, and paths fitted.
        compute: How models are run.
        progress: Told what is going on.

    Raises:
        ArgumentError: Fewer than two models, or no such path.
        DataError: Nothing to measure on, or too few documents for an interval.
        GeoError: With the reason and the remedy.
    """
    _check(models, points)
    with measured_folder(out, BARRIER, overwrite=overwrite) as folder:
        return _barrier(
            models, folder, along, points, data, train_data, compute, progress or Silent()
        )


def _barrier(
    models: Sequence[Model],
    folder: MeasuredFolder,
    along: Sequence[str],
    points: int,
    data: Data,
    train_data: Data,
    compute: Compute,
    told: Progress,
) -> BarrierResult:
    began = time.time()
    fit = fitting_to(models, train_data, data, compute, told)
    along = list(dict.fromkeys(along))
    routes = _distinct(along, [named_route(name, models, fit) for name in along])
    checkpoints = open_checkpoints(models)
    folder.refuse_inputs(checkpoints)
    found = preflight(checkpoints)
    found.require()
    training = train_data if isinstance(train_data, EvalData) else None
    plan = plan_losses(checkpoints, data, compute)
    require_measurable(plan)
    count = len(checkpoints)
    pairs = count * (count - 1) // 2 * len(along)
    ground = make_ground(
        found.fetch(), plan, data, training, compute, told,
        evaluations=count + pairs * (max(points, MOST_POINTS) - PAIR), resumable=True,
    )  # fmt: skip
    ground.tell_where(told)
    seed = data.seed if isinstance(data, EvalData) else 0
    measured = _measure(ground, seed, routes, points, plan.sample)
    halves = ground.halves(seed)
    place = run_with(ground.walk.live.model)
    require_unchanged(ground.walk.anchors)
    report = Report(
        command="barrier",
        output=str(folder.out) if folder.out else None,
        models=[model_entry(checkpoint) for checkpoint in checkpoints],
        settings={
            "along": list(along),
            "points": points,
            "data": asdict(data) if isinstance(data, EvalData) else None,
            "train_data": training and asdict(training),
            "compute": asdict(compute),
            "alignment": found.notes,
        },
        data=data_entry(data, plan.sample, ground.walk.at_model(0).take(halves.report), "report"),
        result=measured,
        warnings=[*found.warnings, *ground.warnings, *ground.walk.evaluator.warnings],
        provenance=provenance(began, *place),
    )
    folder.write(report)
    return BarrierResult(report, folder.out)


def _measure(
    ground: Ground, seed: int, along: Sequence[Route], points: int, sample: Sample | None
) -> BarrierMeasurements:
    walk = ground.walk
    models = [walk.at_model(i) for i in range(len(walk.anchors))]
    halves = ground.halves(seed)
    pairs = measure_pairs(walk, halves, along, points=points, most=MOST_POINTS)
    reported = [found.take(halves.report) for found in models]
    limit = threshold_of([found.mean for found in reported])
    first = [pair for pair in pairs if pair.along == along[0].name]
    found = basins_of(walk, first, [losses.mean for losses in reported])
    groups = sorted(found.all, key=lambda group: group != found.largest)
    return BarrierMeasurements(
        pairs=[barrier_entry(walk, pair) for pair in pairs],
        matrix=matrix_of(len(models), first),
        basins=[[walk.anchors[i].name for i in group] for group in groups],
        threshold=limit,
        losses=_entries(walk, reported, sample),
    )


def _entries(walk: Walk, reported: Sequence[Losses], sample: Sample | None) -> list[LossEntry]:
    return [
        loss_entry(anchor.name, "parent", found, sample)
        for anchor, found in zip(walk.anchors, reported, strict=True)
    ]


def _check(models: Sequence[Model], points: int) -> None:
    if len(models) < PAIR:
        raise ArgumentError(f"nothing lies between {len(models)} model", remedy="name at least two")
    if points < PAIR + 1:
        raise ArgumentError(f"a path needs at least 3 points, found {points}")
    check_count("points", points)


def _distinct(along: Sequence[str], routes: Sequence[Route]) -> list[Route]:
    """Name paths so that two of one kind can be told apart."""
    kinds = Counter(route.name for route in routes)
    return [
        route if kinds[route.name] == 1 else replace(route, name=f"{route.name} {name}")
        for name, route in zip(along, routes, strict=True)
    ]
