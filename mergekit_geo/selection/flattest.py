"""The flattest of the points that are about as good as the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Flattest:
    """What was found.

    Attributes:
        t: The place.
        sharpness: Of every place that was looked at, by t.
    """

    t: float
    sharpness: Mapping[float, float]


def flattest(
    losses: Mapping[float, float],
    sharpness_of: Callable[[float], float],
    *,
    tolerance: float = 0.005,
    most: int = 5,
) -> Flattest:
    """The place with the lowest sharpness among those within a tolerance of the lowest loss.

    Args:
        losses: Of places on a path, by t.
        sharpness_of: Asked of at most `most` places: the best, and others spread evenly over t.
        tolerance: Share of the lowest loss that may be lost.
        most: As sharpness costs more than a loss.

    Example:
        >>> losses = {0.0: 3.0, 0.5: 1.0, 0.6: 1.001, 1.0: 2.0}
        >>> flattest(losses, lambda t: 1 - t).t
        0.6
    """
    best = min(losses, key=lambda t: losses[t])
    allowed = losses[best] + tolerance * abs(losses[best])
    good = sorted(t for t, loss in losses.items() if loss <= allowed)
    found = {t: sharpness_of(t) for t in _spread(good, best, most)}
    return Flattest(min(found, key=lambda t: found[t]), found)


def _spread(places: list[float], best: float, most: int) -> list[float]:
    """Thin out the places to at most `most`, keeping ends and the best."""
    if len(places) <= most:
        return places
    even = [places[round(i * (len(places) - 1) / (most - 1))] for i in range(most)]
    inside = range(1, most - 1) if best not in (even[0], even[-1]) else ()
    for i in sorted(inside, key=lambda i: abs(even[i] - best))[:1]:
        even[i] = best
    return sorted(set(even))
