"""Merging along great circles: SLERP of two tensors, Karcher mean of any number.

Each tensor is flattened; directions live on the sphere, and both methods stay in the span of
their inputs, so that inner products are all they need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mergekit_geo.errors import AntipodalError, ArgumentError
from mergekit_geo.geometry.gram import Gram, Matrix
from mergekit_geo.geometry.linear import check_weights, normalized, refuse_negative
from mergekit_geo.geometry.rule import Coefficients
from mergekit_geo.limits import Interval

PARALLEL = 1e-6
"""Angle in radians below which an arc is its chord; above pi minus this there is no one arc."""

UNIT = Interval(0, 1)
"""Positions on an arc, from one end to the other."""

Antipodal = Literal["error", "linear"]


@dataclass(frozen=True)
class Slerp:
    """Spherical linear interpolation on the unnormalised tensors (Shoemake 1985).

    Coefficients sin((1-t) theta) / sin theta and sin(t theta) / sin theta, theta the angle
    between the two tensors.

    Attributes:
        t: Position in [0, 1]; 0 is the first anchor, to the bit.
        antipodal: What to do with opposite tensors: an error, or the straight line.

    Example:
        >>> gram = Gram.of(np.array([[1.0, 0.0], [0.0, 1.0]]))
        >>> [round(c, 6) for c in Slerp(0.5).coefficients(gram).values]
        [0.707107, 0.707107]
    """

    t: float
    antipodal: Antipodal = "error"
    name: str = "slerp"
    needs_gram: bool = True

    def __post_init__(self) -> None:
        UNIT.check("t", self.t)

    @property
    def weights(self) -> tuple[float, ...]:
        """(1 - t, t)."""
        return (1 - self.t, self.t)

    @property
    def convex(self) -> tuple[float, ...]:
        """(1 - t, t)."""
        return self.weights

    def coefficients(self, gram: Gram | None) -> Coefficients:
        """Sines of the parts of the angle over the sine of the whole."""
        assert gram is not None
        if exception := _not_spherical(gram, self.antipodal):
            return Coefficients(self.convex, exception)
        theta = float(gram.angles[0, 1])
        parts = (math.sin((1 - self.t) * theta), math.sin(self.t * theta))
        return Coefficients((parts[0] / math.sin(theta), parts[1] / math.sin(theta)), "slerp")

    def of_rows(self, grams: Gram) -> Matrix:
        """Factors of many rows, the straight line where there is no one arc: (n, 2)."""
        theta = grams.angles[:, 0, 1]
        is_arc = (grams.norms > 0).all(axis=1) & (theta >= PARALLEL) & (theta <= math.pi - PARALLEL)
        angle = np.where(is_arc, theta, 1.0)
        parts = np.stack([np.sin((1 - self.t) * angle), np.sin(self.t * angle)], axis=1)
        return np.where(is_arc[:, None], parts / np.sin(angle)[:, None], self.weights)


@dataclass(frozen=True)
class Karcher:
    """Weighted Karcher mean: the point of the sphere with least sum_i w_i theta_i^2 (Karcher 1977).

    The direction is that mean of the directions, the norm is the weighted mean of the norms. For
    two anchors of unequal norm it is therefore not SLERP, whose norm follows the arc.

    Attributes:
        weights: One per anchor, >= 0; they are normalised.
        antipodal: What to do with opposite tensors.

    Example:
        >>> gram = Gram.of(np.eye(3))
        >>> [round(c, 6) for c in Karcher((1, 1, 1)).coefficients(gram).values]
        [0.57735, 0.57735, 0.57735]
    """

    weights: tuple[float, ...]
    antipodal: Antipodal = "error"
    name: str = "karcher"
    needs_gram: bool = True

    def __post_init__(self) -> None:
        refuse_negative(self.weights, "a mean on the sphere")

    @property
    def convex(self) -> tuple[float, ...]:
        """The weights, normalised."""
        return normalized(self.weights)

    def coefficients(self, gram: Gram | None) -> Coefficients:
        """The mean's direction over the anchors' directions, scaled to the mean norm."""
        assert gram is not None
        if exception := _not_spherical(gram, self.antipodal):
            return Coefficients(self.convex, exception)
        weights = np.asarray(self.convex)
        mean = karcher_mean(gram.cosines, weights)
        if mean is None:
            return Coefficients(self.convex, _on_antipodal(self.antipodal))
        scale = float(weights @ gram.norms)
        return Coefficients(tuple(float(x) for x in scale * mean / gram.norms), "karcher")


def slerp_or_karcher(
    count: int, t: float | None, weights: Sequence[float] | None, antipodal: Antipodal
) -> Slerp | Karcher:
    """SLERP for two models, Karcher mean for more.

    Raises:
        ArgumentError: Fewer than two models, or a setting of the other method.
    """
    if count == 2:  # noqa: PLR2004
        if weights is not None:
            raise ArgumentError("two models take --t, not --weights", remedy="give --t 0.3")
        return Slerp(0.5 if t is None else t, antipodal)
    if count < 2:  # noqa: PLR2004
        raise ArgumentError(f"slerp needs two models or more, found {count}")
    if t is not None:
        raise ArgumentError(
            f"--t is for two models, found {count}", remedy="give --weights .5,.3,.2"
        )
    return Karcher(normalized(check_weights(count, weights)), antipodal)


def karcher_mean(cosines_kk: Matrix, weights_k: Matrix, steps: int = 200) -> Matrix | None:
    """Coefficients of the Karcher mean over k unit vectors, from their cosines.

    Riemannian gradient descent with unit step: m <- exp_m(sum_i w_i log_m u_i).

    Args:
        cosines_kk: (k, k) inner products of the unit vectors.
        weights_k: (k,) weights that sum to one.
        steps: At most so many.

    Returns:
        (k,) coefficients, or None where there is no unique mean to be found.
    """
    square = float(weights_k @ cosines_kk @ weights_k)
    if square <= PARALLEL**2:
        return None
    mean = weights_k / math.sqrt(square)
    for _ in range(steps):
        tangent = _mean_logarithm(mean, cosines_kk, weights_k)
        length = math.sqrt(max(float(tangent @ cosines_kk @ tangent), 0.0))
        mean = math.cos(length) * mean + np.sinc(length / math.pi) * tangent
        mean = mean / math.sqrt(float(mean @ cosines_kk @ mean))
        if length < 1e-9:  # noqa: PLR2004
            return mean
    return mean if length < PARALLEL else None


def _mean_logarithm(mean: Matrix, cosines_kk: Matrix, weights_k: Matrix) -> Matrix:
    """sum_i w_i log_m(u_i) with log_m(u) = theta / sin(theta) (u - cos(theta) m)."""
    cosine = np.clip(cosines_kk @ mean, -1.0, 1.0)
    scaled = weights_k / np.maximum(np.sinc(np.arccos(cosine) / math.pi), 1e-12)
    return np.asarray(scaled - float(scaled @ cosine) * mean)


def _not_spherical(gram: Gram, antipodal: Antipodal) -> str | None:
    """Why a tensor is merged on the straight line, None if it is not."""
    if gram.count <= 1:
        return "linear: one element"
    if not gram.norms.all():
        return "linear: zero norm"
    widest = float(gram.angles.max())
    if widest < PARALLEL:
        return "linear: parallel"
    return _on_antipodal(antipodal) if widest > math.pi - PARALLEL else None


def _on_antipodal(antipodal: Antipodal) -> str:
    if antipodal == "error":
        raise AntipodalError(
            "opposite tensors have no unique arc between them",
            remedy="--antipodal linear merges such tensors on the straight line",
        )
    return "linear: antipodal"
