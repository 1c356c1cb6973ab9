"""`geo.fit_path`: a curve of low loss between two models."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.compatibility import preflight
from mergekit_geo.checkpoints.origin import model_entry, provenance
from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.clock import on_one_clock
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.data import EvalData
from mergekit_geo.connectivity.config import Fitting
from mergekit_geo.connectivity.pairs import barrier_entry, measure_pairs
from mergekit_geo.connectivity.path_folder import BENDS, PATH, RECORD, end_entry, save_bends
from mergekit_geo.connectivity.paths import path
from mergekit_geo.connectivity.search import CurveSearch, Found, effort_of, route_of
from mergekit_geo.connectivity.state import STATE, FitState
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.evaluation.cache_key import kept_key
from mergekit_geo.evaluation.losses import (
    data_entry,
    loss_entry,
    plan_losses,
    run_with,
)
from mergekit_geo.evaluation.study import Ground, make_ground, require_measurable
from mergekit_geo.evaluation.training import training_objective
from mergekit_geo.geometry.curves import Still, length_ratio
from mergekit_geo.merging.gram import gram_of
from mergekit_geo.outputs.folder import MeasuredFolder, measured_folder
from mergekit_geo.progress import Progress, Silent
from mergekit_geo.records.path import PathMeasurements, PathRecord, SaddleEntry
from mergekit_geo.records.report import Report

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.connectivity.curves import Bends
    from mergekit_geo.connectivity.pairs import Pair
    from mergekit_geo.connectivity.paths import Route
    from mergekit_geo.evaluation.evaluation import Sample
    from mergekit_geo.evaluation.losses import Data
    from mergekit_geo.evaluation.split import Halves
    from mergekit_geo.records.barrier import BarrierEntry

BUILTIN_TEXT = EvalData()
PAIR = 2
MOST_POINTS = 20


@dataclass(frozen=True)
class PathResult:
    """A fitted path.

    Attributes:
        report: Every number.
        out: Its folder, None where the path is kept in memory.
        route: The way itself.
    """

    report: Report
    out: Path | None
    route: Route

    @property
    def measurements(self) -> PathMeasurements:
        """The result part of the report."""
        assert isinstance(self.report.result, PathMeasurements)
        return self.report.result

    def __str__(self) -> str:
        found = self.measurements
        return (
            f"straight: {found.straight.verdict}\n{found.kind}, {found.steps} steps: "
            f"{found.fitted.verdict}"
        )


@on_one_clock
def fit_path(
    models: Sequence[Model],
    out: str | Path | None = None,
    *,
    train_data: Data,
    fitting: Fitting = Fitting(),
    seed: int = 0,
    overwrite: bool = False,
    data: Data = BUILTIN_TEXT,
    compute: Compute = Compute(),
    progress: Progress | None = None,
) -> PathResult:
    """Fit a curve of low loss between two models (Garipov 2018), and measure it.

    The best fit is chosen on the selection half of the held-out data; barriers are reported from
    the other. An interrupted fit into a folder goes on where it was, to the same result.

    Args:
        models: Two folders, Hub ids, or modules.
        out: Folder of the path; None keeps it in memory.
        train_data: What the curve is fitted on, always training data.
        fitting: How.
        seed: Of the first fit.
        overwrite: Replace an earlier path.
        data: Held-out data.
        compute: How models are run; the fit is float32, under bfloat16 autocast if asked for.
        progress: Told what is going on.

    Raises:
        ArgumentError: Not two models, or equal ones.
        DataError: No training data, nothing to measure on, or a loss that is not a number.
        GeoError: With the reason and the remedy.
    """
    with measured_folder(out, PATH, overwrite=overwrite, keep=(STATE,)) as folder:
        return _fit_path(
            models, folder, train_data, fitting, seed, data, compute, progress or Silent()
        )


def _fit_path(
    models: Sequence[Model],
    folder: MeasuredFolder,
    train_data: Data,
    fitting: Fitting,
    seed: int,
    data: Data,
    compute: Compute,
    told: Progress,
) -> PathResult:
    began = time.time()
    work = _fit(models, train_data, fitting, seed, data, compute, told, folder)
    ground, route = work.ground, route_of(work.bends)
    reported = ground.walk.at_model(0).take(work.halves.report)
    require_unchanged(ground.walk.anchors)
    report = Report(
        command="path",
        output=str(folder.out) if folder.out else None,
        models=[model_entry(end) for end in ground.walk.anchors],
        settings=_settings(fitting, seed, data, train_data, compute),
        data=data_entry(data, work.sample, reported, "report"),
        result=_measured(work, route),
        warnings=[*work.warnings, *ground.warnings, *ground.walk.evaluator.warnings],
        provenance=provenance(began, *run_with(ground.walk.live.model)),
    )
    _write(report, work.bends, ground.walk.anchors, folder)
    return PathResult(report, folder.out, route)


def fitted_route(
    models: Sequence[Model],
    fitting: Fitting,
    *,
    seed: int = 0,
    train_data: Data,
    data: Data,
    compute: Compute,
    progress: Progress,
) -> Route:
    """A curve fitted between two models for use at once, neither measured nor kept.

    Args:
        models: Two of them.
        fitting: How.
        seed: Of the first fit.
        train_data: What it is fitted on.
        data: Held-out data; its selection half chooses.
        compute: How models are run.
        progress: Told what is going on.

    Raises:
        GeoError: As `fit_path`.
    """
    assert train_data is not None
    work = _fit(models, train_data, fitting, seed, data, compute, progress, None)
    return route_of(work.bends, effort_of(work.found, fitting, train_data))


@dataclass(frozen=True)
class _Fitted:
    ground: Ground
    halves: Halves
    bends: Bends
    found: Found
    sample: Sample | None
    warnings: list[str]


def _fit(
    models: Sequence[Model],
    train_data: Data,
    fitting: Fitting,
    seed: int,
    data: Data,
    compute: Compute,
    progress: Progress,
    folder: MeasuredFolder | None,
) -> _Fitted:
    """The best curve, and where it was fitted."""
    if len(models) != PAIR:
        raise ArgumentError(f"a path lies between two models, and there are {len(models)}")
    if train_data is None:
        raise DataError("no training data to fit a path on", remedy="--train-data FILE")
    from mergekit_geo.evaluation.objective import TaskObjective

    checkpoints = open_checkpoints(models)
    if folder is not None:
        folder.refuse_inputs(checkpoints)
    found = preflight(checkpoints)
    found.require()
    wide = replace(compute, dtype="float32")
    plan = plan_losses(checkpoints, data, wide)
    require_measurable(plan)
    training = training_objective(train_data, checkpoints[0], wide)
    ends = found.fetch()
    _refuse_equal(ends)
    batch_norm = train_data if isinstance(train_data, EvalData) else None
    ground = make_ground(
        ends, plan, data, batch_norm, wide, progress, evaluations=2 + 2 * MOST_POINTS,
        resumable=True,
    )  # fmt: skip
    halves = ground.halves(data.seed if isinstance(data, EvalData) else 0)
    settings = _settings(fitting, seed, data, train_data, compute)
    fed = [training.digest] if isinstance(training, TaskObjective) else []
    identity = kept_key(
        ends, plan.sample, data, compute, settings, *fed, ground.walk.evaluator.count
    )
    state = FitState(folder.partial if folder else None, identity)
    search = CurveSearch(ground, training, fitting, halves, seed, state, progress)
    return _Fitted(ground, halves, search.run(), search.found, plan.sample, found.warnings)


def _refuse_equal(ends: Sequence[Checkpoint]) -> None:
    gram = gram_of(path("linear").at(ends, 0.5))
    if gram.distances[0, 1] == 0:
        raise ArgumentError("the two models are equal: there is nothing to fit between them")


def _measured(work: _Fitted, route: Route) -> PathMeasurements:
    walk, curve, found = work.ground.walk, work.bends.curve, work.found
    straight, curved = measure_pairs(
        walk, work.halves, (path("linear"), route), points=11, most=MOST_POINTS
    )
    before, after = barrier_entry(walk, straight), barrier_entry(walk, curved)
    reported = [walk.at_model(i).take(work.halves.report) for i in range(PAIR)]
    assert not isinstance(curve, Still)
    return PathMeasurements(
        kind=curve.kind,
        bends=curve.bends,
        steps=found.steps,
        seed=found.seed,
        seconds=round(found.seconds, 3),
        history=found.best_history,
        straight=before,
        fitted=after,
        removed=_removed(before, after),
        length_ratio=length_ratio(curve, gram_of(route.at(walk.anchors, 0.5))),
        lowest_t=_lowest(curved),
        losses=[
            loss_entry(anchor.name, "parent", losses, work.sample)
            for anchor, losses in zip(walk.anchors, reported, strict=True)
        ],
        places=found.places,
        saddle=_saddle(curved),
    )


def _saddle(pair: Pair) -> SaddleEntry | None:
    """The highest point of a path, where it lies between the ends."""
    top = pair.heights.loss.path_max
    return SaddleEntry(t=top.t, loss=top.estimate) if 0 < top.t < 1 else None


def _removed(before: BarrierEntry, after: BarrierEntry) -> float | None:
    """Share of the barrier that the path avoids; None where there is none to avoid."""
    if not before.significant or not before.barrier.value or after.barrier.value is None:
        return None
    return 1 - max(after.barrier.value, 0.0) / before.barrier.value


def _lowest(pair: Pair) -> float:
    """Position t of the lowest loss on the selection half."""
    measured = pair.profile.measured
    return min(measured, key=lambda t: measured[t].take(pair.profile.halves.selection).mean)


def _settings(
    fitting: Fitting, seed: int, data: Data, train_data: Data, compute: Compute
) -> dict[str, Any]:
    return {
        **asdict(fitting),
        "seed": seed,
        "data": asdict(data) if isinstance(data, EvalData) else None,
        "train_data": asdict(train_data) if isinstance(train_data, EvalData) else None,
        "compute": asdict(compute),
    }


def _write(
    report: Report, bends: Bends, ends: Sequence[Checkpoint], folder: MeasuredFolder
) -> None:
    """Write everything into the unfinished folder, then put it in the output's place."""
    measured = report.result
    assert isinstance(measured, PathMeasurements)

    def fill(partial: Path) -> None:
        record = PathRecord(
            ends=[end_entry(end) for end in ends],
            bends_digest=save_bends(bends.states(), partial / BENDS),
            settings=report.settings,
            measured=measured,
        )
        (partial / RECORD).write_text(record.model_dump_json(indent=2) + "\n", "utf-8")

    folder.write(report, fill, sum(vector.nbytes for vector in bends.vectors))
