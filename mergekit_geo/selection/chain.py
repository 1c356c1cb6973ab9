"""Members join a merge one at a time, best first, and stay if it gets better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Point = TypeVar("Point")


@dataclass(frozen=True)
class Joined(Generic[Point]):
    """One merge that was tried.

    Attributes:
        point: What it is.
        loss: On the selection half.
        kept: Whether it became the merge.
    """

    point: Point
    loss: float
    kept: bool


def best_first(losses: Sequence[float]) -> list[int]:
    """Indices from the lowest loss to the highest.

    Example:
        >>> best_first([3.0, 1.0, 2.0])
        [1, 2, 0]
    """
    return sorted(range(len(losses)), key=lambda index: losses[index])


def join(
    losses: Sequence[float],
    single: Callable[[int], Point],
    reach: Callable[[Point, int], tuple[Point, float]],
) -> list[Joined[Point]]:
    """Start with the best model and try each other once, from good to bad.

    Args:
        losses: Of each single model.
        single: The point where a model stands.
        reach: The best point on the way from a point to a model, and its loss. On the straight
            way, at 1 / m to the m-th member, this is the greedy soup.

    Returns:
        Every merge that was tried, in order; the last that was kept is the result.

    Example:
        >>> halfway = lambda p, i: ((p + i) / 2, abs((p + i) / 2 - 1.4))
        >>> [(x.point, x.kept) for x in join([1.4, 0.4, 0.6], float, halfway)]
        [(1.0, True), (1.5, True), (0.75, False)]
    """
    first, *others = best_first(losses)
    best = Joined(single(first), losses[first], kept=True)
    tried = [best]
    for index in others:
        point, loss = reach(best.point, index)
        tried.append(Joined(point, loss, kept=loss < best.loss))
        best = tried[-1] if tried[-1].kept else best
    return tried
