"""Which part of a plane is looked at and how it is shown, checked where it is said."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mergekit_geo.errors import ArgumentError
from mergekit_geo.limits import check_count, check_finite

FEWEST = 2
"""Points along an axis."""


@dataclass(frozen=True)
class View:
    """Which part of a plane is looked at, and how it is shown.

    Attributes:
        grid: Points along each axis.
        margin: Around two or three models, how far the grid reaches beyond them, as a share of
            their extent; taken to the next whole step, so that models lie on grid lines.
        radius: Around one model, how far it reaches to each side: in filter norms, 1 if None; along
            eigenvectors the Euclidean distance, by default that at which the parabola of the
            largest eigenvalue rises by 1.
        each: A landscape around every model, on one colour scale, in place of a plane through them.
        hessian: Look along the top two eigenvectors of the Hessian in place of random directions.
        low: Where the colour scale begins; the lowest loss if None.
        high: Where it ends; the highest loss if None.
        log: Even colours in the logarithm of the height above `low`.
    """

    grid: int = 21
    margin: float = 1 / 3
    radius: float | None = None
    each: bool = False
    hessian: bool = False
    low: float | None = None
    high: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        check_count("grid", self.grid, FEWEST)
        if not 0 <= self.margin < math.inf:
            raise ArgumentError(f"margin must be a number from 0 on, found {self.margin:g}")
        if self.radius is not None and not 0 < self.radius < math.inf:
            raise ArgumentError(f"radius must be a number above 0, found {self.radius:g}")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ArgumentError(
                f"the colours' range begins at {self.low:g} and ends at {self.high:g}",
                remedy="give the lower number first",
            )
        check_finite("low", self.low)
        check_finite("high", self.high)

    @property
    def points(self) -> int:
        """Number of points of one grid."""
        return self.grid**2
