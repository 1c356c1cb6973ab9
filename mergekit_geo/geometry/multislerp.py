"""Barycentric interpolation on the sphere, as mergekit's multislerp and nuslerp define it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mergekit_geo.errors import AntipodalError, ArgumentError
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Coefficients
from mergekit_geo.geometry.sphere import PARALLEL, Antipodal, Slerp

PAIR = 2

SMALLEST_SUM = 1e-6
"""A sum of weights below which nothing is divided by it."""

MIDDLE = 0.5
"""Then both models count the same."""


@dataclass(frozen=True)
class MultiSlerp:
    """One step of the mean on the sphere, taken from the weighted mean of the directions u_i.

    mergekit projects the u_i on the tangent space at m = sum_i w_i u_i / |sum_i w_i u_i|, averages
    there, and goes back by the exponential map. The projections are orthogonal to m and sum to
    zero by the choice of m, so the step has length zero and the result is m times sum_i w_i |a_i|.
    (`karcher` takes the logarithms instead and iterates until the mean stands still.)

    Attributes:
        weights: One per anchor, used as they are.

    Example:
        >>> gram = Gram.of(np.array([[1.0, 0.0], [0.0, 1.0]]))
        >>> [round(c, 6) for c in MultiSlerp((0.5, 0.5)).coefficients(gram).values]
        [0.707107, 0.707107]
    """

    weights: tuple[float, ...]
    name: str = "multislerp"
    needs_gram: bool = True

    @property
    def convex(self) -> tuple[float, ...]:
        """The weights' positive parts, normalised."""
        return Linear(self.weights).convex

    def coefficients(self, gram: Gram | None) -> Coefficients:
        """The mean direction over the anchors' own, scaled to the mean norm.

        Raises:
            AntipodalError: Directions of three or more anchors balance out.
        """
        assert gram is not None
        present = gram.norms > 0
        if gram.count <= 1 or not present.any():
            return Coefficients(
                self.weights, "linear: zero norm" if gram.count > 1 else "linear: one element"
            )
        weights = np.asarray(self.weights) * present
        square = float(weights @ gram.cosines @ weights)
        if square <= PARALLEL**2:
            return self._balanced()
        scale = float(np.asarray(self.weights) @ gram.norms) / math.sqrt(square)
        found = scale * weights / np.where(present, gram.norms, 1.0)
        return Coefficients(tuple(map(float, found)), "multislerp")

    def _balanced(self) -> Coefficients:
        if len(self.weights) > PAIR:
            raise AntipodalError(
                "the weighted directions sum to zero, and no mean direction is left",
                remedy="change the weights",
            )
        return Coefficients(self.weights, "linear: antipodal")


def nuslerp(weights: Sequence[float], antipodal: Antipodal = "linear") -> Slerp:
    """SLERP of two models at t = w_1 / (w_0 + w_1), as in mergekit half-way where the sum is zero.

    Raises:
        ArgumentError: Not two weights, or t falls outside [0, 1].

    Example:
        >>> nuslerp([1.0, 3.0]).t
        0.75
    """
    if len(weights) != PAIR:
        raise ArgumentError(f"nuslerp merges two models, found {len(weights)}")
    total = sum(weights)
    t = weights[1] / total if abs(total) >= SMALLEST_SUM else MIDDLE
    return Slerp(t, antipodal, name="nuslerp")
