"""`geo.fit_path`: a curve of low loss between two models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.origin import model_entries
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.commands._run import Findings, Work, command
from mergekit_geo.config.data import source_of
from mergekit_geo.config.flags import settings_of
from mergekit_geo.connectivity.pairs import barrier_entry, grid_at_once, measure_pairs
from mergekit_geo.connectivity.path_folder import BENDS, PATH, RECORD, end_entry, save_bends
from mergekit_geo.connectivity.paths import path
from mergekit_geo.connectivity.search import CurveSearch, Found, effort_of, path_through
from mergekit_geo.connectivity.state import FitState
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.evaluation.aim import Aim
from mergekit_geo.evaluation.cache_key import cache_key
from mergekit_geo.evaluation.losses import data_entry, loss_entry, run_with
from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.evaluation.sample import training_objective
from mergekit_geo.evaluation.study import Study
from mergekit_geo.geometry.curves import Still, length_ratio
from mergekit_geo.merging.gram import gram_of
from mergekit_geo.outputs.output import Output
from mergekit_geo.records.path import PathMeasurements, PathRecord, PathSetEntry, SaddleEntry
from mergekit_geo.records.report import Report
from mergekit_geo.specs.measures import PathSpec
from mergekit_geo.specs.spec import repeated

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.connectivity.curves import Bends
    from mergekit_geo.connectivity.pairs import Pair
    from mergekit_geo.connectivity.paths import ModelPath
    from mergekit_geo.records.barrier import BarrierEntry

PAIR = 2
POINTS, MOST_POINTS = 11, 20


@command(PathSpec)
def fit_path(asked: PathSpec) -> Work:
    """Fit a curve of low loss between two models (Garipov 2018), and measure it.

    The best fit is chosen on the selection half of the held-out data; barriers are reported from
    the other. An interrupted fit into a folder goes on where it was, to the same result.

    Raises:
        ArgumentError: Not two models, or equal ones.
        DataError: No training data, nothing to measure on, or a loss that is not a number.
        GeoError: With the reason and the remedy.

    Example:
        ```python
        import mergekit_geo as geo

        found = geo.fit_path(
            ["a", "b"],
            "curve",
            train_data="train.jsonl",
            data=geo.EvalData("held-out.jsonl"),
            fitting=geo.CurveFitConfig(bends=2, steps=10),
        )
        print(found.measurements.straight.barrier, found.measurements.fitted.barrier)
        middle = geo.point("curve", t=0.5, data=None).state
        ```
    """
    return Work(asked, lambda output: _fit_path(asked, output), PATH)


def _fit_path(asked: PathSpec, output: Output) -> Findings:
    output.begin([])  # a fit's state tells by itself what it is of
    work = _fit(asked, output)
    evaluator, route = work.evaluator, path_through(work.bends)
    measured = _measured(work, route)
    reported = evaluator.at_model(0).take(evaluator.split.report)
    require_unchanged(evaluator.anchors)
    output.need(sum(vector.nbytes for vector in work.bends.vectors))
    return Findings(
        measured,
        model_entries(evaluator.anchors),
        run_with(evaluator.live.model),
        data=data_entry(evaluator.study, reported, "report"),
        warnings=[*evaluator.study.checked.warnings, *evaluator.all_warnings],
        again=repeated(asked),
        fill=lambda report, folder: _write(report, folder, work.bends, evaluator.anchors),
        kept={"route": route},
    )


def fitted_route(asked: PathSpec) -> ModelPath:
    """A curve fitted between two models for use at once, neither measured nor kept.

    Raises:
        GeoError: As `fit_path`.
    """
    assert asked.train_data is not None
    work = _fit(asked, Output(None, PATH))
    effort = effort_of(work.found, asked.fitting, source_of(asked.train_data))
    return path_through(work.bends, effort)


@dataclass(frozen=True)
class _Fitted:
    aim: Aim
    bends: Bends
    found: Found

    @property
    def evaluator(self) -> PointEvaluator:
        """Where it was fitted."""
        return self.aim.evaluator


def _fit(asked: PathSpec, output: Output) -> _Fitted:
    """The best curve, and where it was fitted."""
    models, train_data = asked.models, asked.train_data
    if len(models) != PAIR:
        raise ArgumentError(f"a path lies between two models, and there are {len(models)}")
    if train_data is None:
        raise DataError("no training data to fit a path on", remedy="--train-data FILE")
    wide = replace(asked.compute, dtype="float32")
    study = Study.open(models, replace(asked, compute=wide), output)
    training = training_objective(train_data, study.models[0], wide)
    ends = study.anchors
    _refuse_equal(ends)
    evaluator = PointEvaluator.open(study, 2 + 2 * MOST_POINTS)
    for one in evaluator.every:
        _ = one.split  # refuses too few documents before the fit
    fed = [training.digest] if isinstance(training, TaskObjective) else []
    further = [
        [one.study.sample and one.study.sample.digest, one.module_evaluator.count]
        for one in evaluator.further
    ]
    fingerprint = cache_key(
        ends, study.sample, study.data, asked.compute, settings_of(asked), *fed,
        evaluator.module_evaluator.count, *further,
    )  # fmt: skip
    state = FitState(output.partial, fingerprint)
    search = CurveSearch(Aim(evaluator, asked.aiming), training, asked.fitting, asked.seed, state)
    return _Fitted(search.aim, search.run(), search.found)


def _refuse_equal(ends: Sequence[Checkpoint]) -> None:
    gram = gram_of(path("linear").at(ends, 0.5))
    if gram.distances[0, 1] == 0:
        raise ArgumentError("the two models are equal: there is nothing to fit between them")


def _measured(work: _Fitted, route: ModelPath) -> PathMeasurements:
    evaluator, curve, found = work.evaluator, work.bends.curve, work.found
    along = (path("linear"), route)
    grid_at_once(evaluator, along, POINTS)
    pairs = [measure_pairs(one, along, points=POINTS, most=MOST_POINTS) for one in evaluator.every]
    sets = {
        one.study.name: _on_set(one, *own) for one, own in zip(evaluator.every, pairs, strict=True)
    }
    first = next(iter(sets.values()))
    assert not isinstance(curve, Still)
    return PathMeasurements(
        kind=curve.kind,
        bends=curve.bends,
        steps=found.steps,
        seed=found.seed,
        seconds=round(found.seconds, 3),
        history=found.best_history,
        straight=first.straight,
        fitted=first.fitted,
        removed=first.removed,
        length_ratio=length_ratio(curve, gram_of(route.at(evaluator.anchors, 0.5))),
        lowest_t=_lowest(work.aim, route, [own[-1] for own in pairs]),
        losses=first.losses,
        places=found.places,
        saddle=first.saddle,
        sets=sets if evaluator.further else {},
    )


def _on_set(evaluator: PointEvaluator, straight: Pair, curved: Pair) -> PathSetEntry:
    """Segment and path on one set."""
    before, after = barrier_entry(evaluator, straight), barrier_entry(evaluator, curved)
    reported = [evaluator.at_model(i).take(evaluator.split.report) for i in range(PAIR)]
    return PathSetEntry(
        data=data_entry(evaluator.study, reported[0], "report"),
        weight=evaluator.study.weight,
        losses=[
            loss_entry(anchor.name, "parent", losses, evaluator.study.sample)
            for anchor, losses in zip(evaluator.anchors, reported, strict=True)
        ],
        straight=before,
        fitted=after,
        removed=_removed(before, after),
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


def _lowest(aim: Aim, route: ModelPath, curved: Sequence[Pair]) -> float:
    """Where on the path the loss is lowest on the selection half, or what is made of several."""
    places = sorted({t for pair in curved for t in pair.profile.measured})
    names = aim.evaluator.names
    return min(places, key=lambda t: aim.value(route.point((0, 1), names, t)))


def _write(report: Report, folder: Path, bends: Bends, ends: Sequence[Checkpoint]) -> None:
    """Write the bends and what they are."""
    measured = report.result
    assert isinstance(measured, PathMeasurements)
    record = PathRecord(
        ends=[end_entry(end) for end in ends],
        bends_digest=save_bends(bends.states(), folder / BENDS),
        settings=report.settings,
        measured=measured,
    )
    (folder / RECORD).write_text(record.model_dump_json(indent=2) + "\n", "utf-8")
