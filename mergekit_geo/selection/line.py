"""The best place of a path, by bounded Brent (Brent 1973), and the flattest of those as good."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scipy.optimize import minimize_scalar

MIDDLE = 0.5


def lowest(found: Mapping[float, float]) -> float:
    """The position with the lowest value, of equal ones the first."""
    return min(found, key=lambda t: found[t])


def line_search(
    loss_of: Callable[[float], float], *, most: int = 12, tolerance: float = 0.01
) -> dict[float, float]:
    """Search [0, 1] for the lowest loss; returns every position tried, and its loss, in order.

    Args:
        loss_of: Loss at a position.
        most: Evaluations, at least three.
        tolerance: Of the position.

    Example:
        >>> round(lowest(line_search(lambda t: (t - 0.3) ** 2)), 2)
        0.3
    """
    tried = {t: loss_of(t) for t in (0.0, 1.0, MIDDLE)}

    def remembered(t: float) -> float:
        if t not in tried:
            tried[float(t)] = loss_of(float(t))
        return tried[float(t)]

    start = lowest(tried)
    bounds = (max(0.0, start - MIDDLE), min(1.0, start + MIDDLE))
    minimize_scalar(
        remembered,
        bounds=bounds,
        method="bounded",
        options={"maxiter": max(1, most - len(tried)), "xatol": tolerance},
    )
    return tried


def sharpness_near_best(
    losses: Mapping[float, float],
    sharpness_of: Callable[[float], float],
    *,
    tolerance: float = 0.005,
    most: int = 5,
) -> dict[float, float]:
    """Sharpness of places within a tolerance of the lowest loss, by t.

    Args:
        losses: Of places on a path, by t.
        sharpness_of: Asked of at most `most` places: the best, and others spread evenly over t.
        tolerance: Share of the lowest loss that may be lost.
        most: As sharpness costs more than a loss.

    Example:
        >>> losses = {0.0: 3.0, 0.5: 1.0, 0.6: 1.001, 1.0: 2.0}
        >>> lowest(sharpness_near_best(losses, lambda t: 1 - t))
        0.6
    """
    best = lowest(losses)
    allowed = losses[best] + tolerance * abs(losses[best])
    good = sorted(t for t, loss in losses.items() if loss <= allowed)
    return {t: sharpness_of(t) for t in _spread(good, best, most)}


def _spread(places: list[float], best: float, most: int) -> list[float]:
    """Thin out the places to at most `most`, keeping ends and the best."""
    if len(places) <= most:
        return places
    even = [places[round(i * (len(places) - 1) / (most - 1))] for i in range(most)]
    inside = range(1, most - 1) if best not in (even[0], even[-1]) else ()
    for i in sorted(inside, key=lambda i: abs(even[i] - best))[:1]:
        even[i] = best
    return sorted(set(even))
