"""Which point of a leg a merge takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mergekit_geo.selection.legs import Point, Segment

if TYPE_CHECKING:
    from mergekit_geo.evaluation.split import Split
    from mergekit_geo.evaluation.study import Ground
    from mergekit_geo.selection.config import SelectionConfig

MIDPOINT = 0.5
EVEN = tuple(i / 10 for i in range(11))
"""Positions searched for a flat point, beside those of the search for the best."""


@dataclass(frozen=True)
class SelectedPoint:
    """A point of a leg.

    Attributes:
        leg: The leg.
        point: The point.
        t: Its place; None for a mean of several.
        tried: Loss on the selection half of each place that was looked at.
        sharpness: λ_max there, of those that were compared by it.
    """

    leg: Segment
    point: Point
    t: float | None
    tried: Mapping[float, float] = field(default_factory=dict)
    sharpness: Mapping[float, float] = field(default_factory=dict)


def point_without_losses(choosing: SelectionConfig, leg: Segment) -> SelectedPoint:
    """The point that needs no losses: the mean, or the midpoint.

    Raises:
        ArgumentError: The path's coefficients depend on the tensors, and the mean is asked for.
    """
    if choosing.pick == "mean":
        return SelectedPoint(leg, leg.mean(choosing.average_points), None)
    return SelectedPoint(leg, leg.at(MIDPOINT), MIDPOINT)


def selected_point(
    choosing: SelectionConfig, leg: Segment, ground: Ground, halves: Split, seed: int
) -> SelectedPoint:
    """The point that the settings ask for, chosen on the selection half where they say so."""
    from mergekit_geo.selection.line import line_search

    if choosing.pick in {"midpoint", "mean"}:
        return point_without_losses(choosing, leg)

    def loss_of(t: float) -> float:
        return leg.losses(ground.walk, t).take(halves.selection).mean

    tried = dict(line_search(loss_of).tried)
    if choosing.pick == "flattest":
        return _flattest(choosing, leg, tried, loss_of, _sharpness(leg, ground, halves, seed))
    best = min(tried, key=lambda t: tried[t])
    return SelectedPoint(leg, leg.at(best), best, tried)


def _flattest(
    choosing: SelectionConfig,
    leg: Segment,
    tried: dict[float, float],
    loss_of: Callable[[float], float],
    sharpness_of: Callable[[float], float],
) -> SelectedPoint:
    from mergekit_geo.selection.flattest import flattest

    tried |= {t: loss_of(t) for t in EVEN if t not in tried}
    found = flattest(tried, sharpness_of, tolerance=choosing.tolerance)
    return SelectedPoint(
        leg, leg.at(found.t), found.t, dict(sorted(tried.items())), found.sharpness
    )


def _sharpness(leg: Segment, ground: Ground, halves: Split, seed: int) -> Callable[[float], float]:
    """λ_max at places of a leg, on examples of the selection half."""
    from mergekit_geo.curvature.largest import lambda_max
    from mergekit_geo.curvature.levels import LEVELS
    from mergekit_geo.curvature.mean_loss import MeanLoss
    from mergekit_geo.evaluation.some_rows import pieces_of

    walk = ground.walk
    rows = halves.selection[:: max(1, len(halves.selection) // LEVELS["quick"].examples)]
    pieces = pieces_of(ground.objective, rows, walk.live.model)

    def sharpness_of(t: float) -> float:
        walk.go_to(leg.at(t).blend(walk.anchors))
        return lambda_max(MeanLoss(walk.live.model, pieces), seed)

    return sharpness_of
