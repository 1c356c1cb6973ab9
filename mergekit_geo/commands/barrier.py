"""`geo.barrier`: the loss on the way between models."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.compatibility import preflight
from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.commands._report import report_of
from mergekit_geo.commands._run import command
from mergekit_geo.commands.fitting import fitting_to
from mergekit_geo.commands.result import Result
from mergekit_geo.connectivity.pairs import (
    PAIR,
    barrier_entry,
    basins_of,
    matrix_of,
    measure_pairs,
    threshold_of,
)
from mergekit_geo.connectivity.path_folder import named_path
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.losses import data_entry, loss_entry, plan_losses, run_with
from mergekit_geo.evaluation.source import source_of
from mergekit_geo.evaluation.study import Ground, make_ground, require_measurable
from mergekit_geo.limits import check_count
from mergekit_geo.outputs.kind import BARRIER
from mergekit_geo.outputs.output import Output
from mergekit_geo.records.barrier import BarrierMeasurements
from mergekit_geo.records.losses import LossEntry
from mergekit_geo.specs.measures import BarrierSpec

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.connectivity.paths import ModelPath
    from mergekit_geo.evaluation.evaluation import Sample
    from mergekit_geo.evaluation.points import Walk
    from mergekit_geo.tasks.losses import Losses

MOST_POINTS = 20


@command(BarrierSpec)
def barrier(asked: BarrierSpec) -> Result:
    """Measure the loss along paths between every two models (Entezari 2021, Frankle 2020).

    The t of a barrier is found on one half of the documents and its height measured on the other.
    Finished points are kept in the user's cache: an interrupted measurement goes on.

    Raises:
        ArgumentError: Fewer than two models, or no such path.
        DataError: Nothing to measure on, or too few documents for an interval.
        GeoError: With the reason and the remedy.
    """
    _check(asked.models, asked.points)
    with Output(asked.out, BARRIER, overwrite=asked.overwrite) as output:
        return _barrier(asked, output)


def _barrier(asked: BarrierSpec, output: Output) -> Result:
    models, points, told = asked.models, asked.points, asked.told
    data, train_data, compute = asked.data, asked.train_data, asked.compute
    along = list(dict.fromkeys(asked.along))
    began = time.time()
    fit = fitting_to(models, train_data, data, compute, told)
    routes = _distinct(along, [named_path(name, models, fit) for name in along])
    checkpoints = open_checkpoints(models)
    output.refuse_inputs(checkpoints)
    found = preflight(checkpoints)
    found.require()
    training = source_of(train_data).as_settings
    plan = plan_losses(checkpoints, data, compute)
    require_measurable(plan)
    count = len(checkpoints)
    pairs = count * (count - 1) // 2 * len(along)
    ground = make_ground(
        found.fetch(), plan, data, training, compute, told,
        evaluations=count + pairs * (max(points, MOST_POINTS) - PAIR), resumable=True,
    )  # fmt: skip
    ground.tell_where(told)
    seed = source_of(data).seed
    measured = _measure(ground, seed, routes, points, plan.sample)
    halves = ground.halves(seed)
    place = run_with(ground.walk.live.model)
    require_unchanged(ground.walk.anchors)
    report = report_of(
        asked,
        measured,
        checkpoints,
        began,
        place=place,
        settings={"along": along, "alignment": found.notes},
        data=data_entry(data, plan.sample, ground.walk.at_model(0).take(halves.report), "report"),
        warnings=[*found.warnings, *ground.warnings, *ground.walk.evaluator.warnings],
    )
    output.publish(report)
    return Result(report, output.out)


def _measure(
    ground: Ground, seed: int, along: Sequence[ModelPath], points: int, sample: Sample | None
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


def _distinct(along: Sequence[str], routes: Sequence[ModelPath]) -> list[ModelPath]:
    """Name paths so that two of one kind can be told apart."""
    kinds = Counter(route.name for route in routes)
    return [
        route if kinds[route.name] == 1 else replace(route, name=f"{route.name} {name}")
        for name, route in zip(along, routes, strict=True)
    ]
