"""Which point of a segment a merge takes, by loss and by sharpness."""

from __future__ import annotations

from collections.abc import Callable

from mergekit_geo.config.selection import SelectionConfig
from mergekit_geo.curvature.largest import lambda_max
from mergekit_geo.curvature.levels import LEVELS
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.evaluation.batches import batches_of_rows
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.selection.line import line_search, lowest, sharpness_near_best
from mergekit_geo.selection.segment import Segment, SelectedPoint, point_without_losses

EVEN = tuple(i / 10 for i in range(11))
"""Positions searched for a flat point, beside those of the search for the best."""


def selected_point(
    config: SelectionConfig, segment: Segment, evaluator: PointEvaluator
) -> SelectedPoint:
    """The point that the settings ask for, chosen on the selection half where they say so."""
    if config.pick in {"midpoint", "mean"}:
        return point_without_losses(config, segment)

    def loss_of(t: float) -> float:
        return evaluator.at(segment.measured_at(t)).take(evaluator.split.selection).mean

    tried, sharpness = line_search(loss_of), {}
    if config.pick == "flattest":
        tried |= {t: loss_of(t) for t in EVEN if t not in tried}
        sharpness = sharpness_near_best(
            tried, _sharpness(segment, evaluator), tolerance=config.tolerance
        )
        tried = dict(sorted(tried.items()))
    t = lowest(sharpness or tried)
    return SelectedPoint(segment, segment.at(t), t, tried, sharpness)


def _sharpness(segment: Segment, evaluator: PointEvaluator) -> Callable[[float], float]:
    """λ_max at places of a segment, on examples of the selection half."""
    rows = evaluator.split.selection
    rows = rows[:: max(1, len(rows) // LEVELS["quick"].examples)]
    batches = batches_of_rows(evaluator.objective, rows, evaluator.live.model)

    def sharpness_of(t: float) -> float:
        evaluator.go_to(segment.at(t))
        return lambda_max(MeanLoss(evaluator.live.model, batches), evaluator.study.seed)

    return sharpness_of
