"""`geo.barrier`: the loss on the way between models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.origin import model_entries
from mergekit_geo.checkpoints.runs import Run, checkpoints_of, refuse_models
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.commands._run import Findings, Work, command
from mergekit_geo.commands.by_layer import ByLayer, check_by_layer, write_weights
from mergekit_geo.commands.fitting import fitting_to
from mergekit_geo.config.training import CurveFitConfig
from mergekit_geo.connectivity.pairs import (
    PAIR,
    Between,
    barrier_entry,
    basins_of,
    every_pair,
    grid_at_once,
    matrix_of,
    measure_pairs,
    threshold_of,
)
from mergekit_geo.connectivity.path_folder import named_path
from mergekit_geo.connectivity.stability import (
    pairs_of_run,
    require_distinct,
    require_run,
    stability,
)
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.losses import data_entry, loss_entry, run_with
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.evaluation.study import Study
from mergekit_geo.limits import check_count
from mergekit_geo.merging.gram import geometry_of
from mergekit_geo.outputs.kind import BARRIER
from mergekit_geo.outputs.output import Output
from mergekit_geo.records.barrier import BarrierMeasurements, BarrierSetEntry
from mergekit_geo.records.losses import DataEntry, LossEntry
from mergekit_geo.specs.measures import BarrierSpec
from mergekit_geo.specs.spec import repeated

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.connectivity.paths import ModelPath
    from mergekit_geo.tasks.losses import Losses

MOST_POINTS = 20


@command(BarrierSpec)
def barrier(asked: BarrierSpec) -> Work:
    """Measure the loss along paths between every two models (Entezari 2021, Frankle 2020).

    Of a training's `checkpoints` paths lead from each to the next one and to the last one, and tell
    from when on no barrier is left: when training has entered one basin.

    The t of a barrier is found on one half of the documents and its height measured on the other.
    Finished points are kept in the user's cache: an interrupted measurement goes on.

    Raises:
        ArgumentError: Fewer than two models, or no such path.
        DataError: Nothing to measure on, or too few documents for an interval.
        GeoError: With the reason and the remedy.

    Example:
        ```python
        import mergekit_geo as geo

        found = geo.barrier(["a", "b"], data=geo.EvalData("held-out.jsonl"))
        print(found)  # in words
        print(found.measurements.pairs[0].barrier.value, "nats")
        ```
    """
    models, run = _models(asked)
    _check(models, asked.points)
    check_by_layer(asked)
    once = replace(asked, along=list(dict.fromkeys(asked.along)))
    return Work(once, lambda output: _barrier(once, models, run, output), BARRIER)


def _models(asked: BarrierSpec) -> tuple[Sequence[Model], Run | None]:
    """The models, and the training that they are checkpoints of, if they are."""
    if not asked.checkpoints:
        return asked.models, None
    refuse_models(asked.models, "ask for their barriers without --checkpoints")
    models, runs = checkpoints_of(asked.checkpoints)
    require_run(len(models), runs)
    return models, runs[0]


def _barrier(
    asked: BarrierSpec, models: Sequence[Model], run: Run | None, output: Output
) -> Findings:
    study = Study.open(models, asked, output)
    names = [anchor.name for anchor in study.anchors]
    if run is not None:
        require_distinct(names, geometry_of(study.anchors))
    fit = fitting_to(study.models, asked, CurveFitConfig(), seed=0)
    routes = _distinct(asked.along, [named_path(name, study.models, fit) for name in asked.along])
    count = len(study.models)
    between = pairs_of_run(count) if run else every_pair(count)
    pairs = len(between) * len(asked.along)
    inner = max(asked.points, MOST_POINTS) - PAIR
    layers = ByLayer.of(study, asked) if asked.by_layer else None
    more = layers.count(len(study.sets)) if layers else 0
    evaluator = PointEvaluator.open(study, count + pairs * inner + more)
    evaluator.tell_where()
    measured = _measured(evaluator, _Asked(routes, asked.points, between, run))
    found, weights = layers.run(evaluator) if layers else (None, None)
    place = run_with(evaluator.live.model)
    geometry = geometry_of(evaluator.anchors)
    require_unchanged(evaluator.anchors)
    return Findings(
        measured.model_copy(update={"by_layer": found, "geometry": geometry}),
        model_entries(study.models),
        place,
        settings={"alignment": study.checked.notes},
        again=repeated(asked),
        data=_data(evaluator),
        warnings=[*study.checked.warnings, *evaluator.all_warnings],
        fill=partial(write_weights, weights),
    )


@dataclass(frozen=True)
class _Asked:
    """Paths that are measured.

    Attributes:
        along: Of each kind.
        points: Even positions.
        between: Pairs of models.
        run: The training that the models are checkpoints of, if they are.
    """

    along: Sequence[ModelPath]
    points: int
    between: Between
    run: Run | None


def _measured(evaluator: PointEvaluator, asked: _Asked) -> BarrierMeasurements:
    grid_at_once(evaluator, asked.along, asked.points, asked.between)
    sets = {one.study.name: _on_set(one, asked) for one in evaluator.every}
    first = next(iter(sets.values()))
    return BarrierMeasurements(
        pairs=first.pairs, matrix=first.matrix, basins=first.basins, threshold=first.threshold,
        losses=first.losses, sets=sets if evaluator.further else {}, stability=first.stability,
    )  # fmt: skip


def _on_set(evaluator: PointEvaluator, asked: _Asked) -> BarrierSetEntry:
    """The pairs of models on one set."""
    models = [evaluator.at_model(i) for i in range(len(evaluator.anchors))]
    pairs = measure_pairs(
        evaluator, asked.along, points=asked.points, most=MOST_POINTS, between=asked.between
    )
    reported = [found.take(evaluator.split.report) for found in models]
    limit = threshold_of([found.mean for found in reported])
    first = [pair for pair in pairs if pair.along == asked.along[0].name]
    found = basins_of(evaluator, first, [losses.mean for losses in reported])
    entries, run = [barrier_entry(evaluator, pair) for pair in pairs], asked.run
    groups = sorted(found.all, key=lambda group: group != found.largest)
    return BarrierSetEntry(
        data=_data(evaluator),
        weight=evaluator.study.weight,
        pairs=entries,
        matrix=matrix_of(len(models), first),
        basins=[[evaluator.anchors[i].name for i in group] for group in groups],
        threshold=limit,
        losses=_entries(evaluator, reported),
        stability=run and stability(run, evaluator.names, entries, len(asked.along)),
    )


def _data(evaluator: PointEvaluator) -> DataEntry:
    return data_entry(evaluator.study, evaluator.at_model(0).take(evaluator.split.report), "report")


def _entries(evaluator: PointEvaluator, reported: Sequence[Losses]) -> list[LossEntry]:
    return [
        loss_entry(anchor.name, "parent", found, evaluator.study.sample)
        for anchor, found in zip(evaluator.anchors, reported, strict=True)
    ]


def _check(models: Sequence[Model], points: int) -> None:
    if len(models) < PAIR:
        raise ArgumentError(f"nothing lies between {len(models)} model", remedy="name at least two")
    if points < PAIR + 1:
        raise ArgumentError(f"a path needs at least 3 points, found {points}")
    check_count("points", points)


def _distinct(along: Sequence[str], routes: Sequence[ModelPath]) -> list[ModelPath]:
    """Name paths so that two of one kind can be told apart."""
    kinds = Counter(route.name for route in routes)
    return [
        route if kinds[route.name] == 1 else replace(route, name=f"{route.name} {name}")
        for name, route in zip(along, routes, strict=True)
    ]
