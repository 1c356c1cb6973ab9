"""Planes in weight space: coordinates of models, coefficients of points, distances off the plane.

A plane is spanned by two offsets from an origin: other models seen from it, or directions. All
follows from inner products of the offsets. Legend: k offsets, the first two of which span.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.gram import Gram, Matrix
from mergekit_geo.geometry.linear import Linear

SPANNING = 2
FLAT = 1e-4
"""Largest sine of a triangle's angles below which it is a line: rounding puts the mean of two
float32 models 1e-6 off the line between them."""


@dataclass(frozen=True)
class Place:
    """Where something lies.

    Attributes:
        x: First coordinate of the nearest point of the plane.
        y: Second coordinate.
        off: Euclidean distance from there.
    """

    x: float
    y: float
    off: float


@dataclass(frozen=True)
class Plane:
    """A plane in weight space.

    Attributes:
        products_kk: (k, k) inner products of the offsets.
        models: How many of origin and spanning offsets are models; the others are directions.
        axes: (2, 2) upper triangular: coordinates are these times the coefficients of the
            spanning offsets.

    Example:
        >>> triangle = Gram.of(np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 3.0]]))
        >>> plane = Plane.through_models(triangle)
        >>> plane.place(1)
        Place(x=1.0, y=3.0, off=0.0)
        >>> plane.rule(1.0, 1.5).weights
        (0.25, 0.25, 0.5)
    """

    products_kk: Matrix
    models: int
    axes: Matrix

    @classmethod
    def through_models(cls, gram: Gram, directions: Sequence[int] = ()) -> Plane:
        """A plane with Euclidean coordinates: x along the first offset, y square to it.

        Args:
            gram: Of the origin, the two that span (models, or a model and a direction), and what
                else is to be placed.
            directions: Which of these anchors are directions.

        Raises:
            ArgumentError: The two offsets span no plane.
        """
        products = offsets(gram, directions)
        _require_spanning(products)
        length = math.sqrt(products[0, 0])
        shift = products[0, 1] / length
        height = math.sqrt(max(products[1, 1] - shift**2, 0.0))
        return cls(products, 3 - len(directions), np.array([[length, shift], [0.0, height]]))

    @classmethod
    def of_directions(cls, gram: Gram, *, distances: bool = False) -> Plane:
        """A plane whose coordinates are the coefficients of two directions (Li 2018).

        Args:
            gram: Of a model, two directions, and what else is to be placed.
            distances: Whether coordinates are distances along the directions instead.

        Raises:
            ArgumentError: The directions are parallel, or one is nothing.
        """
        products = offsets(gram, (1, 2))
        _require_spanning(products)
        lengths = np.sqrt(np.diag(products)[:SPANNING])
        return cls(products, 1, np.diag(lengths if distances else np.ones(SPANNING)))

    @property
    def cosine(self) -> float:
        """Cosine of the angle between the two spanning offsets."""
        lengths = np.sqrt(np.diag(self.products_kk)[:SPANNING])
        return float(self.products_kk[0, 1] / lengths.prod())

    @property
    def units(self) -> tuple[float, float]:
        """Euclidean length of a step of 1 along each coordinate."""
        steps = np.linalg.inv(self.axes)
        squares = np.einsum("ix,ij,jx->x", steps, self.products_kk[:2, :2], steps)
        return float(np.sqrt(squares[0])), float(np.sqrt(squares[1]))

    def coefficients(self, x: float, y: float) -> tuple[float, float]:
        """Coefficients of the spanning offsets at a point; exactly 0 and 1 at the models."""
        second = y / self.axes[1, 1]
        first = (x - second * self.axes[0, 1]) / self.axes[0, 0]
        return float(first), float(second)

    def rule(self, x: float, y: float) -> Linear:
        """A point of the plane, as weights of origin and spanning anchors."""
        steps = self.coefficients(x, y)
        origin = 1.0
        for step in steps[: self.models - 1]:
            origin -= step
        return Linear((origin, *steps), "plane", "plane", directions=3 - self.models)

    def place(self, offset: int) -> Place:
        """Where an offset lies: its orthogonal projection, and how far it lies off the plane.

        Args:
            offset: Its number; -1 is the origin.
        """
        if offset < 0:
            return Place(0.0, 0.0, 0.0)
        if offset < SPANNING:
            x, y = self.axes[:, offset]
            return Place(float(x), float(y), 0.0)
        spanning, along = self.products_kk[:2, :2], self.products_kk[:2, offset]
        steps = np.linalg.solve(spanning, along)
        x, y = self.axes @ steps
        rest = float(self.products_kk[offset, offset] - steps @ along)
        return Place(float(x), float(y), math.sqrt(max(rest, 0.0)))


def offsets(gram: Gram, directions: Sequence[int]) -> Matrix:
    """Inner products of the offsets of anchors 1 to k from anchor 0: (k, k).

    Args:
        gram: Of k + 1 anchors.
        directions: Which of them are offsets as they are.

    Example:
        >>> gram = Gram.of(np.array([[5.0, 0.0], [5.0, 2.0], [0.0, 3.0]]))
        >>> offsets(gram, (2,)).tolist()
        [[4.0, 6.0], [6.0, 9.0]]
    """
    change = np.eye(len(gram.differences))
    change[list(directions), 0] = 1.0  # the Gram matrix holds a - a0, and a is meant
    return np.asarray((change @ gram.differences @ change.T)[1:, 1:])


def _require_spanning(products_kk: Matrix) -> None:
    """Refuse a triangle without an area.

    Raises:
        ArgumentError: It has none.
    """
    first, second, cross = products_kk[0, 0], products_kk[1, 1], products_kk[0, 1]
    sides = sorted((first, second, first + second - 2 * cross))
    area = first * second - cross**2
    if sides[0] <= 0 or area <= FLAT**2 * sides[0] * sides[1]:
        raise ArgumentError(
            "expected three points that span a plane, found them on one line",
            remedy="name models of which none is a mixture of the others",
        )
