"""Curves between two models through fitted bends, as coefficients over ends and bends.

The anchors of a curve are its two ends, then its bends in order. Every point is a convex
combination of them, so running statistics stay statistics and ends are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import ModelWeights

CHAINS = ("polygon", "neb")
"""Kinds of curve that are straight between their bends."""


@dataclass(frozen=True)
class Bezier:
    """A Bezier curve of degree bends + 1 (Garipov 2018, eq. 4, for one bend).

    Attributes:
        bends: Number of control points between the ends.

    Example:
        >>> Bezier(1).weights(0.5)
        (0.25, 0.25, 0.5)
    """

    bends: int
    kind = "bezier"

    def weights(self, t: float) -> ModelWeights:
        """Bernstein weights of first end, last end, bends: they sum to 1."""
        degree = self.bends + 1
        terms = [math.comb(degree, j) * (1 - t) ** (degree - j) * t**j for j in range(degree + 1)]
        return (terms[0], terms[-1], *terms[1:-1])


@dataclass(frozen=True)
class Polygon:
    """A chain of straight pieces through the bends (Garipov 2018, eq. 3).

    Attributes:
        places: t of each bend, ascending, within (0, 1).
        kind: `polygon`; `neb` where t is the share of the chain's length (Draxler 2018).

    Example:
        >>> Polygon.even(1).weights(0.25)
        (0.5, 0.0, 0.5)
    """

    places: tuple[float, ...]
    kind: str = "polygon"

    @classmethod
    def even(cls, bends: int, kind: str = "polygon") -> Polygon:
        """Bends at even distances in t."""
        return cls(tuple((j + 1) / (bends + 1) for j in range(bends)), kind)

    @property
    def bends(self) -> int:
        """Number of corners."""
        return len(self.places)

    def weights(self, t: float) -> ModelWeights:
        """Hat functions of first end, last end, bends: at most two are not 0."""
        corners = (0.0, *self.places, 1.0)
        found = [0.0] * len(corners)
        for j, (left, right) in enumerate(pairwise(corners)):
            if left <= t <= right:
                share = (t - left) / (right - left)
                found[j], found[j + 1] = 1 - share, share
                break
        return (found[0], found[-1], *found[1:-1])


@dataclass(frozen=True)
class Still:
    """A constant path: every point is the single bend, which starts at an end and is free of both.

    To fit it is to train that end further, with all else as it is for a curve.

    Attributes:
        start: 0 or 1, the end that the bend starts at.
    """

    start: float
    kind = "still"
    bends = 1

    def weights(self, t: float) -> ModelWeights:
        """Weights of first end, last end and bend, the same at every t."""
        return (0.0, 0.0, 1.0)


Curve = Bezier | Polygon | Still


def curve_of(kind: str, bends: int, places: Sequence[float] | None = None) -> Curve:
    """A curve by its kind.

    Args:
        kind: `bezier`, `polygon` or `neb`.
        bends: How many.
        places: t of each bend of a chain; even ones if None.

    Raises:
        ArgumentError: No such kind, or no bend.
    """
    if bends < 1:
        raise ArgumentError(f"a curve has at least one bend, found {bends}")
    if kind == "bezier":
        return Bezier(bends)
    if kind not in CHAINS:
        raise ArgumentError(f"kind {kind!r}: expected one of bezier, {', '.join(CHAINS)}")
    return Polygon.even(bends, kind) if places is None else Polygon(tuple(places), kind)


def rule_at(curve: Curve, t: float) -> Linear:
    """The point of a curve at t, as a rule over ends and bends.

    Raises:
        ArgumentError: t lies outside [0, 1].

    Example:
        >>> rule_at(Bezier(1), 0.0).weights
        (1.0, 0.0, 0.0)
    """
    if not 0 <= t <= 1:
        raise ArgumentError(f"t must lie in [0, 1], found {t:g}")
    return Linear(curve.weights(t), branch=curve.kind, name=curve.kind)


def start_weights(curve: Curve) -> list[tuple[float, float]]:
    """Where on the segment each bend starts, as weights of the two ends."""
    if isinstance(curve, Still):
        return [(1 - curve.start, curve.start)]
    if isinstance(curve, Polygon):
        return [(1 - t, t) for t in curve.places]
    places = [(j + 1) / (curve.bends + 1) for j in range(curve.bends)]
    return [(1 - t, t) for t in places]


def length_ratio(curve: Curve, gram: Gram, pieces: int = 1000) -> float:
    """Length of a curve over the distance of its ends, which must not be equal.

    Args:
        curve: Over ends and bends.
        gram: Of first end, last end, bends.
        pieces: Chords that the length is summed over.

    Example:
        >>> corner = Gram.of(np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 1.0]]))
        >>> round(length_ratio(Polygon.even(1), corner), 6)
        1.414214
    """
    points = np.array([curve.weights(i / pieces) for i in range(pieces + 1)])
    steps = np.diff(points, axis=0)[:, 1:]
    products = gram.differences[1:, 1:]
    squares = np.einsum("pi,ij,pj->p", steps, products, steps)
    return float(np.sqrt(np.maximum(squares, 0.0)).sum() / gram.distances[0, 1])


def respaced(lengths: Sequence[float], places: Sequence[float]) -> list[tuple[int, float]]:
    """Where on a chain the given shares of its length lie: piece, and share of that piece.

    Args:
        lengths: Of the pieces, in order.
        places: Shares of the whole length, within [0, 1].

    Example:
        >>> respaced([1.0, 3.0], [0.125, 0.5])
        [(0, 0.5), (1, 0.3333333333333333)]
    """
    ends = np.cumsum([0.0, *lengths])
    found = []
    for place in places:
        reach = place * ends[-1]
        piece = min(int(np.searchsorted(ends, reach, side="right")) - 1, len(lengths) - 1)
        length = lengths[piece]
        found.append((piece, float((reach - ends[piece]) / length) if length > 0 else 0.0))
    return found
