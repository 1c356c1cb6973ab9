"""The loss on a grid of a plane. Legend: y rows of the grid, x points of a row."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mergekit_geo.tasks.losses import Floats, Losses

LossAt = Callable[[int, float, float], Losses]
"""Number of a point from 1 on, and its coordinates, to the losses there."""


@dataclass(frozen=True)
class Scan:
    """The loss on a grid.

    Attributes:
        x: (x,) positions along the first axis, ascending.
        y: (y,) along the second.
        loss_yx: (y, x) mean loss; NaN or infinite where it is not finite.
        metric_yx: (y, x) the task's metric; None where the task has none.
    """

    x: Floats
    y: Floats
    loss_yx: Floats
    metric_yx: Floats | None


def scan(x: Floats, y: Floats, measure: LossAt) -> Scan:
    """Measure the loss at every point, row by row.

    Args:
        x: (x,) positions along the first axis.
        y: (y,) along the second.
        measure: Losses at a point, always of the same examples.

    Example:
        >>> def bowl(number: int, x: float, y: float) -> Losses:
        ...     return Losses(np.full(3, x**2 + y**2), np.ones(3), np.arange(3))
        >>> scan(around(1.0, 3), around(1.0, 3), bowl).loss_yx.tolist()
        [[2.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 2.0]]
    """
    found = [
        measure(row * len(x) + column + 1, float(across), float(up))
        for row, up in enumerate(y)
        for column, across in enumerate(x)
    ]
    shape = len(y), len(x)
    metrics = [losses.accuracy for losses in found if losses.accuracy is not None]
    return Scan(
        x,
        y,
        np.array([losses.mean for losses in found]).reshape(shape),
        np.array(metrics).reshape(shape) if metrics else None,
    )


def around(radius: float, count: int) -> Floats:
    """Even positions from -radius to radius; exactly 0 is one of them if their number is odd.

    Example:
        >>> around(1.0, 5).tolist()
        [-1.0, -0.5, 0.0, 0.5, 1.0]
    """
    return np.array([radius * ((2 * i - (count - 1)) / (count - 1)) for i in range(count)])


def beyond(low: float, high: float, margin: float, count: int) -> Floats:
    """Even positions over a stretch and beyond it; both its ends are exactly among them.

    Args:
        low: Where the stretch begins.
        high: Where it ends.
        margin: Share of the stretch to each side of it, taken to a whole number of steps.
        count: Of positions.

    Example:
        >>> beyond(0.0, 6.0, 1 / 3, 6).tolist()
        [-2.0, 0.0, 2.0, 4.0, 6.0, 8.0]
    """
    wanted = margin * (count - 1) / (1 + 2 * margin)
    outside = min(math.floor(wanted + 0.5), (count - 2) // 2)
    inside = count - 1 - 2 * outside
    shares = [(i - outside) / inside for i in range(count)]
    return np.array([(1 - share) * low + share * high for share in shares])
