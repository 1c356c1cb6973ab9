"""Barriers between the parents of an output, on each evaluation set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import combinations

from mergekit_geo.config.selection import INNER_POINTS, MOST_PARENTS, PAIR, SEGMENT_POINTS
from mergekit_geo.connectivity.barrier import path_heights
from mergekit_geo.connectivity.pairs import barrier_entry, measure_pairs, path_entry, profile_of
from mergekit_geo.connectivity.paths import path
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.selection.segment import SelectedPoint, even
from mergekit_geo.selection.selector import Selected

COARSE_POINTS = INNER_POINTS + 2


def at_once(evaluator: PointEvaluator, points: Iterator[Point]) -> None:
    """Measure points on every set after one move, where there are several.

    What fails fails again where it is asked for, on the set that it is of.
    """
    if evaluator.further:
        for point in points:
            with suppress(Exception):  # a model's own code raises anything
                evaluator.at_all(point)


def coarse_points(evaluator: PointEvaluator) -> Iterator[Point]:
    """The points at which `coarse_barriers` measures."""
    count, line = len(evaluator.anchors), path("linear")
    if 1 < count <= MOST_PARENTS and any(map(_has_halves, evaluator.every)):
        for first, second in combinations(range(count), PAIR):
            for i in range(COARSE_POINTS):
                yield line.point((first, second), evaluator.names, i / (COARSE_POINTS - 1))


def segment_points(selection: Selected) -> Iterator[Point]:
    """The points of paths that were taken, at which `barriers_of` measures."""
    for found in selection.segments:
        more = [] if found.t is None else [found.t]
        for t in [*even(_count(found)), *more]:
            yield found.segment.measured_at(t)


def barriers_of(
    evaluator: PointEvaluator, selection: Selected
) -> tuple[list[BarrierEntry], list[str]]:
    """Barriers between the parents, and on the paths that points were taken of."""
    found, warnings = coarse_barriers(evaluator)
    if found:
        found = _told_once([*_segments(evaluator, selection), *found])
    return found, warnings


def coarse_barriers(evaluator: PointEvaluator) -> tuple[list[BarrierEntry], list[str]]:
    """Measure barriers between every two of a few models, or warn why there are none."""
    if not 1 < len(evaluator.anchors) <= MOST_PARENTS:
        return [], []
    try:
        _ = evaluator.split
    except DataError as error:
        return [], [f"no barrier between the models: {error}"]
    pairs = measure_pairs(evaluator, (path("linear"),), points=COARSE_POINTS, most=COARSE_POINTS)
    return [barrier_entry(evaluator, pair) for pair in pairs], []


def _told_once(entries: Sequence[BarrierEntry]) -> list[BarrierEntry]:
    """Keep the first entry of each pair and kind of path: a segment's points are closer.

    The segments come last.
    """
    found: dict[tuple[frozenset[str], str], BarrierEntry] = {}
    for entry in entries:
        found.setdefault((frozenset((entry.first, entry.second)), entry.along), entry)
    return sorted(found.values(), key=lambda entry: entry.taken is not None)


def _segments(evaluator: PointEvaluator, selection: Selected) -> list[BarrierEntry]:
    """The paths that points were taken of."""
    return [_segment_entry(evaluator, segment) for segment in selection.segments]


def _segment_entry(evaluator: PointEvaluator, found: SelectedPoint) -> BarrierEntry:
    """The path that a point was taken of, and the point on it."""
    segment, taken = found.segment, found.t
    profile = profile_of(
        evaluator,
        segment.measured_at,
        points=_count(found),
        most=_count(found) + 1,
        also=() if taken is None else (taken,),
    )
    return path_entry(segment.ends, segment.path.name, profile, path_heights(profile), taken)


def _count(found: SelectedPoint) -> int:
    """Number of even places at which the loss on a path is measured."""
    return len(found.sweep) or SEGMENT_POINTS


def _has_halves(evaluator: PointEvaluator) -> bool:
    with suppress(Exception):
        return bool(evaluator.split)
    return False
