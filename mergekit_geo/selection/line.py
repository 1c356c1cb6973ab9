"""The best point of a path, by bounded Brent (Brent 1973), ends and middle included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MIDDLE = 0.5


@dataclass(frozen=True)
class LineSearch:
    """What was found.

    Attributes:
        t: The best position.
        loss: There.
        tried: Every position tried, and its loss, in order.
    """

    t: float
    loss: float
    tried: tuple[tuple[float, float], ...]


def line_search(
    loss_of: Callable[[float], float], *, most: int = 12, tolerance: float = 0.01
) -> LineSearch:
    """The position in [0, 1] with the lowest loss of all that were tried.

    Args:
        loss_of: Loss at a position.
        most: Evaluations, at least three.
        tolerance: Of the position.

    Example:
        >>> round(line_search(lambda t: (t - 0.3) ** 2).t, 2)
        0.3
    """
    from scipy.optimize import minimize_scalar

    tried = {t: loss_of(t) for t in (0.0, 1.0, MIDDLE)}

    def remembered(t: float) -> float:
        tried[float(t)] = tried.get(float(t), loss_of(float(t)))
        return tried[float(t)]

    lowest = min(tried, key=lambda t: tried[t])
    bounds = (max(0.0, lowest - MIDDLE), min(1.0, lowest + MIDDLE))
    minimize_scalar(
        remembered,
        bounds=bounds,
        method="bounded",
        options={"maxiter": max(1, most - len(tried)), "xatol": tolerance},
    )
    best = min(tried, key=lambda t: tried[t])
    return LineSearch(best, tried[best], tuple(tried.items()))
