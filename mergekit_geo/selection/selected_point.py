"""Which point of a segment a merge takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mergekit_geo.selection.line import line_search, lowest, sharpness_near_best
from mergekit_geo.selection.point import Point, Segment

if TYPE_CHECKING:
    from mergekit_geo.config.selection import SelectionConfig
    from mergekit_geo.evaluation.points import PointEvaluator

MIDPOINT = 0.5
EVEN = tuple(i / 10 for i in range(11))
"""Positions searched for a flat point, beside those of the search for the best."""


@dataclass(frozen=True)
class SelectedPoint:
    """A point of a segment.

    Attributes:
        segment: The segment.
        point: The point.
        t: Its place; None for a mean of several.
        tried: Loss on the selection half of each place that was looked at.
        sharpness: λ_max there, of those that were compared by it.
    """

    segment: Segment
    point: Point
    t: float | None
    tried: Mapping[float, float] = field(default_factory=dict)
    sharpness: Mapping[float, float] = field(default_factory=dict)


def point_without_losses(choosing: SelectionConfig, segment: Segment) -> SelectedPoint:
    """The point that needs no losses: the mean, or the midpoint.

    Raises:
        ArgumentError: The path's coefficients depend on the tensors, and the mean is asked for.
    """
    if choosing.pick == "mean":
        return SelectedPoint(segment, segment.mean(choosing.average_points), None)
    return SelectedPoint(segment, segment.at(MIDPOINT), MIDPOINT)


def selected_point(
    choosing: SelectionConfig, segment: Segment, evaluator: PointEvaluator
) -> SelectedPoint:
    """The point that the settings ask for, chosen on the selection half where they say so."""
    if choosing.pick in {"midpoint", "mean"}:
        return point_without_losses(choosing, segment)

    def loss_of(t: float) -> float:
        return segment.losses(evaluator, t).take(evaluator.split.selection).mean

    tried = line_search(loss_of)
    if choosing.pick == "flattest":
        return _flattest(choosing, segment, tried, loss_of, _sharpness(segment, evaluator))
    best = lowest(tried)
    return SelectedPoint(segment, segment.at(best), best, tried)


def _flattest(
    choosing: SelectionConfig,
    segment: Segment,
    tried: dict[float, float],
    loss_of: Callable[[float], float],
    sharpness_of: Callable[[float], float],
) -> SelectedPoint:
    tried |= {t: loss_of(t) for t in EVEN if t not in tried}
    sharpness = sharpness_near_best(tried, sharpness_of, tolerance=choosing.tolerance)
    t = lowest(sharpness)
    return SelectedPoint(segment, segment.at(t), t, dict(sorted(tried.items())), sharpness)


def _sharpness(segment: Segment, evaluator: PointEvaluator) -> Callable[[float], float]:
    """λ_max at places of a segment, on examples of the selection half."""
    from mergekit_geo.curvature.largest import lambda_max
    from mergekit_geo.curvature.levels import LEVELS
    from mergekit_geo.curvature.mean_loss import MeanLoss
    from mergekit_geo.evaluation.batches import batches_of_rows

    rows = evaluator.split.selection
    rows = rows[:: max(1, len(rows) // LEVELS["quick"].examples)]
    batches = batches_of_rows(evaluator.objective, rows, evaluator.live.model)

    def sharpness_of(t: float) -> float:
        evaluator.go_to(segment.at(t).blend(evaluator.anchors))
        return lambda_max(MeanLoss(evaluator.live.model, batches), evaluator.study.seed)

    return sharpness_of
