"""The loss along a path, whose top is found with few evaluations.

An even grid first, then steps towards the maximum of the excess over the straight line between the
losses of the two ends, on the selection half. Each step is a function of what was measured before
and of nothing else, so an interrupted search that remembers its points goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.split import Split
from mergekit_geo.tasks.losses import Floats, Losses

POINTS = 11
MOST = 20
FEWEST_POINTS = 3

GAIN = 0.005
"""Least expected gain of a step, as a share of the excess."""
RESOLVED = 0.1
"""Where both neighbours are within this share of the top, a parabola is trusted."""
LEAST_STEP = 0.25
"""Share of the way to a neighbour that is not trusted: else a parabola can stand still."""
DIGITS = 3
"""Decimals of t in a step."""
TIGHT = 0.002
"""Length of the shortest step."""


@dataclass(frozen=True)
class Profile:
    """Losses along a path (p points).

    Attributes:
        measured: Losses of the same examples at each t, in the order of t, ends included.
        split: Which of the examples choose t and which report.
    """

    measured: Mapping[float, Losses]
    split: Split

    @cached_property
    def t(self) -> Floats:
        """(p,) places on the path."""
        return np.array(list(self.measured))

    @cached_property
    def examples(self) -> Losses:
        """Losses at the first point: weights and documents are the same at all."""
        return next(iter(self.measured.values()))

    @cached_property
    def finite(self) -> Floats:
        """(p,) NaN where the loss of an example is NaN or infinite, else 0."""
        found = [np.isfinite(losses.loss).all() for losses in self.measured.values()]
        return np.where(found, 0.0, np.nan)

    @cached_property
    def not_finite(self) -> tuple[float, ...]:
        """Places where the loss of an example is NaN or infinite."""
        return tuple(self.t[np.isnan(self.finite)].tolist())

    @cached_property
    def excess(self) -> Floats:
        """(p,) mean loss on the selection half above the line between the ends' losses.

        NaN where the loss is not finite; everywhere, where that of an end is not.
        """
        chosen = [losses.take(self.split.selection).mean for losses in self.measured.values()]
        means = np.array(chosen) + self.finite
        return np.asarray(means - (means[0] + self.t * (means[-1] - means[0])))


def trace(
    measure: Callable[[float], Losses],
    split: Split,
    *,
    points: int = POINTS,
    most: int = MOST,
    also: Sequence[float] = (),
) -> Profile:
    """Measure the loss along a path: on an even grid, then near its top.

    Not refined where the path is nowhere above the line between its ends. A top narrower than the
    grid's spacing can stay unseen between two points.

    Args:
        measure: Losses at t, always of the same examples.
        split: Which of the examples choose t and which report.
        points: Of the even grid on [0, 1], ends included.
        most: Evaluations in all, ends included.
        also: Places within [0, 1] to be measured beside the grid.

    Raises:
        ArgumentError: Too few points, or fewer in all than on the grid.

    Example:
        >>> def bump(t: float) -> Losses:
        ...     height = np.full(4, 1 + np.exp(-(((t - 0.33) / 0.1) ** 2)))
        ...     return Losses(height, np.ones(4), np.arange(4))
        >>> profile = trace(bump, Split(np.array([0, 1]), np.array([2, 3])))
        >>> len(profile.t), f"{profile.excess.max():.2f}"
        (13, '1.00')
    """
    _check(points, most)
    grid = sorted({*(i / (points - 1) for i in range(points)), *also})
    profile = Profile({t: measure(t) for t in grid}, split)
    while len(profile.t) < most and (t := next_step(profile.t, profile.excess)) is not None:
        profile = Profile(dict(sorted({**profile.measured, t: measure(t)}.items())), split)
    return profile


def _check(points: int, most: int) -> None:
    if points < FEWEST_POINTS:
        raise ArgumentError(
            f"points must be at least {FEWEST_POINTS}: the ends and one between, found {points}"
        )
    if most < points:
        raise ArgumentError(
            f"at most {most} evaluations do not hold the grid's {points}",
            remedy=f"allow {points} or more",
        )


def next_step(t: Floats, excess: Floats) -> float | None:
    """Next position to measure, between the neighbours of the highest point; None at the end.

    The step goes to the top of the parabola through the highest point and its neighbours (Brent
    1973, chapter 5), but no less than a quarter of the way to the lower neighbour while one is far
    below the top.

    Args:
        t: (p,) places measured, in order.
        excess: (p,) the excess at each; NaN is left out.

    Example:
        >>> t = np.array([0, 0.35, 0.45, 0.65, 1])
        >>> next_step(t, t * (1 - t))
        0.5
    """
    seen = np.isfinite(excess)
    places, heights = t[seen], excess[seen]
    if len(places) < FEWEST_POINTS or heights[1:-1].max() <= 0:
        return None
    top = 1 + int(heights[1:-1].argmax())
    step = _step(places[top - 1 : top + 2], heights[top - 1 : top + 2])
    if step is None or np.abs(t - step).min() < TIGHT:
        return None
    return round(step, DIGITS)


def _step(t: Floats, heights: Floats) -> float | None:
    """Next position from three points around a maximum; None where it would gain too little."""
    left, right = t[1] - t[0], t[2] - t[1]
    fall_left, fall_right = heights[1] - heights[0], heights[1] - heights[2]
    slope = (fall_left / left * right - fall_right / right * left) / (left + right)
    curvature = (fall_left / left + fall_right / right) * 2 / (left + right)
    shift = slope / curvature if curvature > 0 else 0.0
    resolved = max(fall_left, fall_right) <= RESOLVED * heights[1]
    if resolved:
        return float(t[1] + shift) if slope * shift / 2 > GAIN * heights[1] else None
    least = LEAST_STEP * (right if shift >= 0 else left)
    return float(t[1] + np.copysign(max(abs(shift), least), shift))
