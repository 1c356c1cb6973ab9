"""Which layers did it, where a mean of two models is worse than one of them."""

from __future__ import annotations

from dataclasses import dataclass

from mergekit_geo.commands.by_layer import ByLayer
from mergekit_geo.config.measures import LAYER_BLOCKS
from mergekit_geo.connectivity.layer_rises import LayerMoves, Rises, groups_of
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import has_statistics
from mergekit_geo.records.layers import LayerMeasurements
from mergekit_geo.selection.selector import Selected

PAIR = 2
SHARE = 0.5
"""Share of the time that is left that it may take: sharpness comes after it."""

SURE = 1e-9


@dataclass(frozen=True)
class LayerEvidence:
    """What was measured.

    Attributes:
        found: The rises; None where there are none to tell of, or they were not measured.
        reason: Why they were not measured though the output is worse.
    """

    found: LayerMeasurements | None = None
    reason: str = ""


def layer_evidence(evaluator: PointEvaluator, selection: Selected) -> LayerEvidence:
    """Rises by group of layers, where a straight mean of two models is worse than one of them.

    They are measured if that takes no more than half of the time that is left.

    Args:
        evaluator: Of the two models.
        selection: The point that was merged.
    """
    t = _place(selection)
    if t is None or has_statistics(evaluator.anchors[0].tensors) or not _has_halves(evaluator):
        return LayerEvidence()
    moves = LayerMoves(evaluator.names, tuple(groups_of(evaluator.anchors, LAYER_BLOCKS)), t)
    if not any(_is_worse(one, moves) for one in evaluator.every):
        return LayerEvidence()
    layers = ByLayer(moves, proposes=False)
    each = sum(one.module_evaluator.seconds_each for one in evaluator.every)
    seconds, left = layers.count(len(evaluator.every)) * each, evaluator.study.clock.left
    if seconds > SHARE * left:
        return LayerEvidence(
            reason=f"it would take about {seconds / 60:.1f} minutes, and {left / 60:.1f} are left, "
            "half of them for sharpness"
        )
    found, _ = layers.run(evaluator)
    return LayerEvidence(found)


def _place(selection: Selected) -> float | None:
    """Where the point is on the straight line between two models; None if it is elsewhere."""
    rule, point = selection.point.rule, selection.point
    apart = point.rules or point.takers or point.extra or selection.segments
    if apart or not isinstance(rule, Linear) or len(rule.weights) != PAIR:
        return None
    first, second = rule.weights
    inside = first > 0 and second > 0 and abs(first + second - 1) < SURE
    return second if inside else None


def _has_halves(evaluator: PointEvaluator) -> bool:
    try:
        return all(one.split for one in evaluator.every)
    except DataError:
        return False


def _is_worse(evaluator: PointEvaluator, moves: LayerMoves) -> bool:
    """Whether the mean is significantly worse than the better model, on the report half."""
    rises = Rises.of_better(evaluator, moves)
    found = rises.estimate(rises.whole, evaluator.split.report)
    return bool(found.is_significant) and found.number > 0
