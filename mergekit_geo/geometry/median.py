"""The geometric median: the point with the least sum of distances to the models.

It lies in the span of the models, so that inner products are all it needs: the weights of the
models are iterated, not the tensors. A model far from the others pulls no more than a near one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mergekit_geo.geometry.gram import Gram, Matrix
from mergekit_geo.geometry.linear import normalized, refuse_negative
from mergekit_geo.geometry.rule import Coefficients
from mergekit_geo.limits import Interval

STEPS = 200
"""Most iterations."""

HALVED = 10
"""Newton's steps are tried whole, and halved so many times less one."""

SAME = 1e-7
"""A distance that counts as none, as a share of the largest: less is lost in rounding."""

EQUAL = 1 + 1e-12
"""The ratio of two forces that count as equal."""

TOLERANCE = Interval(0, 1, open_high=True)
"""What a step may be at the end, as a share of the mean distance."""


@dataclass(frozen=True)
class GeometricMedian:
    """The x with the least sum_i w_i |a_i - x|, by Weiszfeld's iteration (Weiszfeld 1937).

    Near a model its steps become small long before the end: Newton's are taken where they go lower.

    Where a model is that point itself it is found before the iteration: the pulls of the others,
    unit vectors times weights, then sum to less than its own weight. Where every point between two
    models is one, as of two models of equal weight, the iteration goes from the weighted mean to
    the nearest. One that meets a model on the way goes on as Vardi 2000 has it.

    Attributes:
        weights: One per anchor, >= 0; they are normalised.
        tolerance: The last step, as a share of the mean distance.

    Example:
        >>> gram = Gram.of(np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]]))
        >>> [round(c, 6) for c in GeometricMedian((1, 1, 1)).coefficients(gram).values]
        [0.333333, 0.333333, 0.333333]
    """

    weights: tuple[float, ...]
    tolerance: float = 1e-9
    name: str = "geometric_median"
    needs_gram: bool = True

    def __post_init__(self) -> None:
        TOLERANCE.check("tolerance", self.tolerance)
        refuse_negative(self.weights, "a median")

    @property
    def convex(self) -> tuple[float, ...]:
        """The weights, normalised."""
        return normalized(self.weights)

    def coefficients(self, gram: Gram | None) -> Coefficients:
        """Convex weights of the anchors."""
        assert gram is not None
        weights, squares = np.asarray(self.convex), gram.distances**2
        for model in np.eye(len(weights)):
            if _share_that_stays(model, weights, squares) > 1:
                return Coefficients(tuple(map(float, model)), f"{self.name}: one of the models")
        point, branch = weights, f"{self.name}: not converged"
        for _ in range(STEPS):
            before, point = point, _lower(point, weights, squares)
            if _length(point - before, squares) <= self.tolerance * _sum(point, weights, squares):
                branch = self.name
                break
        return Coefficients(tuple(map(float, point)), branch)


def _length(step: Matrix, squares: Matrix) -> float:
    """Norm of a sum of anchors whose weights sum to zero."""
    return math.sqrt(max(-0.5 * float(step @ squares @ step), 0.0))


def _sum(point: Matrix, weights: Matrix, squares: Matrix) -> float:
    """Sum of the distances, each times its weight."""
    return float(weights @ _distances(point, squares))


def _distances(point: Matrix, squares: Matrix) -> Matrix:
    """From a point to each anchor, 0 where it is lost in rounding: (k,).

    Args:
        point: (k,) weights that sum to one.
        squares: (k, k) squared distances of the anchors.
    """
    found = np.sqrt(np.maximum(squares @ point - 0.5 * float(point @ squares @ point), 0.0))
    return np.asarray(np.where(found > SAME * math.sqrt(squares.max()), found, 0.0))


def _pulls(point: Matrix, weights: Matrix, squares: Matrix) -> Matrix:
    """Weight over distance of each anchor that is not where the point is: (k,)."""
    distances = _distances(point, squares)
    return np.divide(weights, distances, out=np.zeros_like(weights), where=distances > 0)


def _share_that_stays(point: Matrix, weights: Matrix, squares: Matrix) -> float:
    """How much of the others' pull the anchors at a point hold: above 1 it is the median."""
    pulls = _pulls(point, weights, squares)
    held = float(weights[pulls == 0].sum())
    length = _length(pulls - pulls.sum() * point, squares)
    return held / length if 0 < length >= held / EQUAL else math.inf


def _step(point: Matrix, weights: Matrix, squares: Matrix) -> Matrix:
    """The mean of the anchors by their pulls, less far where an anchor is at the point."""
    pulls = _pulls(point, weights, squares)
    if pulls.all():
        return np.asarray(pulls / pulls.sum())
    stays = min(_share_that_stays(point, weights, squares), 1.0)
    return np.asarray((1 - stays) * pulls / pulls.sum() + stays * point)


def _lower(point: Matrix, weights: Matrix, squares: Matrix) -> Matrix:
    """The lowest of Weiszfeld's step, which never goes up, and shares of Newton's."""
    newton = _newton(point, weights, squares)
    tried = [point + 0.5**halved * newton for halved in range(HALVED)]
    tried.append(_step(point, weights, squares))
    return min(tried, key=lambda found: _sum(found, weights, squares))


def _newton(point: Matrix, weights: Matrix, squares: Matrix) -> Matrix:
    """The step to where the second-order expansion of the sum has no slope.

    With p_i the pulls and u_i the unit vectors to the anchors its Hessian is
    sum_i p_i (1 - u_i u_i'), here over weights of anchors that sum to zero: the inner product of
    two such, x and y, is -1/2 x' D y, D the squares.
    """
    pulls, distances = _pulls(point, weights, squares), _distances(point, squares)
    away = np.eye(len(point)) - point
    bent = np.divide(pulls, distances**2, out=np.zeros_like(pulls), where=distances > 0)
    hessian = pulls.sum() * np.eye(len(point)) + 0.5 * (away.T * bent) @ away @ squares
    slope = pulls.sum() * point - pulls
    return np.asarray(-np.linalg.lstsq(hessian, slope, rcond=None)[0])
