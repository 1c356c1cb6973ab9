"""Every two of several models: the losses between them, the barriers, and the basins they make."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np

from mergekit_geo.connectivity.barrier import PathHeights, path_heights
from mergekit_geo.connectivity.basins import Basins, basins
from mergekit_geo.connectivity.paths import ModelPath
from mergekit_geo.connectivity.profile import Profile, trace
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.evaluation.statistics import mean_loss
from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.findings import limit_of

PAIR = 2
Between = Sequence[tuple[int, int]]
"""Pairs of models, by index."""


@dataclass(frozen=True)
class Pair:
    """A path between two models, measured.

    Attributes:
        first: Index of the model at t = 0.
        second: Index of the model at t = 1.
        along: Kind of path.
        profile: Losses along it.
        heights: What they say.
    """

    first: int
    second: int
    along: str
    profile: Profile
    heights: PathHeights


def measure_pairs(
    evaluator: PointEvaluator,
    along: Sequence[ModelPath],
    *,
    points: int,
    most: int,
    between: Between = (),
) -> list[Pair]:
    """The profile and the barrier of pairs of an evaluator's models, along every kind of path.

    Args:
        evaluator: Where losses are measured.
        along: Paths.
        points: Even positions.
        most: Positions in all.
        between: The pairs, by index; every one if there are none.
    """
    found, most = [], max(points, most)
    for first, second in between or every_pair(len(evaluator.anchors)):
        for path in along:
            point_at = partial(path.point, (first, second), evaluator.names)
            profile = profile_of(evaluator, point_at, points=points, most=most)
            found.append(Pair(first, second, path.name, profile, path_heights(profile)))
    return found


def every_pair(count: int) -> list[tuple[int, int]]:
    """All pairs of models, by index."""
    return [(i, j) for i, j in combinations(range(count), PAIR)]


def grid_at_once(
    evaluator: PointEvaluator, along: Sequence[ModelPath], points: int, between: Between = ()
) -> None:
    """Measure even positions on every set, so that the module moves to each of them once.

    Args:
        evaluator: Where losses are measured.
        along: Paths between its models.
        points: Even positions.
        between: The pairs, by index; every one if there are none.
    """
    if not evaluator.further:
        return
    for first, second in between or every_pair(len(evaluator.anchors)):
        for path in along:
            for i in range(points):
                evaluator.at_all(path.point((first, second), evaluator.names, i / (points - 1)))


def profile_of(
    evaluator: PointEvaluator,
    point_at: Callable[[float], Point],
    *,
    points: int,
    most: int,
    also: Sequence[float] = (),
) -> Profile:
    """Losses along a path of points, as `trace` measures them.

    Args:
        evaluator: Where losses are measured.
        point_at: The point of the path at t.
        points: Even positions.
        most: Positions in all.
        also: Positions beside the even ones.
    """
    return trace(
        lambda t: evaluator.at(point_at(t)), evaluator.split, points=points, most=most, also=also
    )


def basins_of(evaluator: PointEvaluator, pairs: Sequence[Pair], losses: Sequence[float]) -> Basins:
    """Which models are connected, by the barriers between them.

    Args:
        evaluator: Whose models they are.
        pairs: Every pair of them, along one kind of path.
        losses: Of the models.
    """
    return basins(np.array(matrix_of(len(losses), pairs)), losses, threshold_of(losses))


def matrix_of(count: int, pairs: Sequence[Pair]) -> list[list[float]]:
    """(count, count) heights of the barriers between models, symmetric; NaN where not measured."""
    matrix = [[0.0 if i == j else math.nan for j in range(count)] for i in range(count)]
    for pair in pairs:
        height = pair.heights.height
        matrix[pair.first][pair.second] = matrix[pair.second][pair.first] = height
    return matrix


def threshold_of(losses: Sequence[float]) -> float:
    """Barriers below this connect: 2 % of the models' mean loss."""
    return limit_of(sum(losses) / len(losses))


def barrier_entry(evaluator: PointEvaluator, pair: Pair) -> BarrierEntry:
    """The path between two models as the report has it."""
    names = evaluator.anchors[pair.first].name, evaluator.anchors[pair.second].name
    return path_entry(names, pair.along, pair.profile, pair.heights)


def path_entry(
    names: tuple[str, str],
    along: str,
    profile: Profile,
    heights: PathHeights,
    taken: float | None = None,
) -> BarrierEntry:
    """A path as the report has it: the curve on the report half, heights with intervals.

    Args:
        names: Of its ends.
        along: Kind of path.
        profile: Losses along it.
        heights: What they say.
        taken: t of the point that a merge took.
    """
    loss, error = heights.loss, heights.error
    found = loss.barrier.estimate
    reported = [x.take(profile.split.report) for x in profile.measured.values()]
    scores = [x.accuracy for x in reported if x.accuracy is not None]
    return BarrierEntry(
        first=names[0],
        second=names[1],
        along=along,
        t=profile.t.tolist(),
        loss=[x.mean for x in reported],
        metric=scores or None,
        barrier=found,
        barrier_mean=loss.barrier_mean.estimate,
        error_barrier=None if error is None else error.barrier.estimate,
        t_max=loss.barrier.t,
        path_max=loss.path_max.estimate.value,
        path_mean=loss.path_mean.value,
        significant=None if found.low is None else found.low > 0,
        verdict=heights.sentence(),
        taken=taken,
        dip=loss.dip.estimate,
        t_dip=loss.dip.t,
        threshold=loss.limit,
        documents=mean_loss(reported[0]).documents,
    )
