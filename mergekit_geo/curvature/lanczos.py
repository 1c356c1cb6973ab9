"""Extreme eigenvalues of a symmetric operator by Lanczos (Lanczos 1950).

Every new vector is made orthogonal to the whole basis, twice (Giraud 2005): without that, copies of
converged eigenvalues appear (Paige 1972). The products are what costs; a step's arithmetic is 8 m n
operations beside it. Sums over n are taken in float64, a chunk at a time, whatever the dtype.

Axes: m steps (rows of the basis), n parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.modules.vectors import Floats, norm, orthogonalise

ROUNDING = 10.0
"""Rounding error of a product in units of the dtype's epsilon: smaller residuals are zero."""

FEWEST = 3
"""Steps before a residual is believed: a start can lie near a wrong eigenvector."""

ENDS = {"largest": [-1], "both": [0, -1]}
"""Which of the ascending Ritz values are meant."""

Product = Callable[[Tensor], Tensor]
"""v to A v, both (n,) of one dtype, A symmetric. The result may be overwritten."""


@dataclass(frozen=True)
class Krylov:
    """The space of v, A v, ..., A^(m-1) v, in which A is tridiagonal: A Q = Q T + last q e_m.

    Attributes:
        diagonal: (m,) of T.
        offdiagonal: (m-1,) of T.
        last: Norm of what the last product left over; 0 where the space is invariant under A.
        basis: (m, n) orthonormal rows in the dtype of the start; None where it was not kept.

    Example:
        >>> matrix = torch.diag(torch.tensor([1.0, 2.0, 5.0]))
        >>> krylov = lanczos(lambda vector: matrix @ vector, torch.ones(3), 3)
        >>> krylov.values.round(5).tolist(), krylov.last
        ([1.0, 2.0, 5.0], 0.0)
    """

    diagonal: Floats
    offdiagonal: Floats
    last: float
    basis: Tensor | None

    @cached_property
    def _ritz(self) -> tuple[Floats, Floats]:
        """Eigenvalues of T (m,) and its eigenvectors as columns (m, m)."""
        values, vectors = eigh_tridiagonal(self.diagonal, self.offdiagonal)
        return np.asarray(values, np.float64), np.asarray(vectors, np.float64)

    @cached_property
    def values(self) -> Floats:
        """Ritz values, ascending: (m,)."""
        return self._ritz[0]

    @cached_property
    def residuals(self) -> Floats:
        """|A y - θ y| of each Ritz pair, which is last |s_m| (Parlett 1998, 13.2): (m,).

        Some eigenvalue of A lies within this of the Ritz value.
        """
        return np.asarray(np.abs(self.last * self._ritz[1][-1]))

    @cached_property
    def weights(self) -> Floats:
        """Share of the start in each Ritz vector, with sum 1: (m,)."""
        return np.asarray(self._ritz[1][0] ** 2)

    def converged(self, tolerance: float) -> NDArray[np.bool_]:
        """Whether each residual is small beside the largest value in size: (m,).

        That of the largest value is compared with this value itself.
        """
        allowed = np.full(len(self.values), tolerance * np.abs(self.values).max())
        allowed[-1] = tolerance * abs(self.values[-1])
        return np.asarray(self.residuals <= allowed)

    def vector(self, index: int) -> Tensor:
        """Ritz vector of a value, of norm 1: (n,).

        Args:
            index: Of the ascending values; -1 is the largest.

        Raises:
            ArgumentError: The basis was not kept.
        """
        if self.basis is None:
            raise ArgumentError(
                "a Ritz vector is made of the basis, which was not kept",
                remedy="lanczos(..., keep_basis=True)",
            )
        shares = torch.from_numpy(self._ritz[1][:, index].copy()).to(self.basis.dtype)
        ritz = shares @ self.basis
        return ritz.div_(norm(ritz))


Stop = Callable[[Krylov], bool]


def never(krylov: Krylov) -> bool:
    """Stopping rule that takes all the steps."""
    return False


def extremes_converged(tolerance: float, ends: str = "largest") -> Stop:
    """A rule that stops where the residual of each end is small.

    Args:
        tolerance: Of the largest, relative to it; of the smallest, which may lie near 0, relative
            to the largest in size.
        ends: `largest` eigenvalue, or `both` the largest and the smallest.

    Raises:
        ArgumentError: No such ends, or a tolerance that cannot be met.
    """
    if ends not in ENDS:
        raise ArgumentError(f"ends {ends!r}: expected one of {', '.join(ENDS)}")
    if not 0 < tolerance < math.inf:
        raise ArgumentError(f"the tolerance is {tolerance}: expected a number above 0")

    def stop(krylov: Krylov) -> bool:
        converged = krylov.converged(tolerance)[ENDS[ends]].all()
        return len(krylov.values) >= FEWEST and bool(converged)

    return stop


def lanczos(
    product: Product, start: Tensor, steps: int, *, stop: Stop = never, keep_basis: bool = True
) -> Krylov:
    """Grow a Krylov space step by step, one product each.

    It ends early where the space is invariant, so never with more than n steps.

    Args:
        product: The operator.
        start: (n,) of any length; float32 or float64, on the CPU.
        steps: At most so many products. The basis takes this many vectors of memory.
        stop: Asked after every step.
        keep_basis: If not, only the last two vectors are kept, and each new one is orthogonal to
            those (the three-term recurrence). The extreme Ritz values are right all the same; inner
            ones may be there twice, so their weights mean nothing.

    Raises:
        ArgumentError: The start has no direction, or there are no steps.
        DataError: A product is not finite.
    """
    if steps < 1:
        raise ArgumentError(f"{steps} Lanczos steps: expected at least 1")
    length = _length(start)
    count = min(steps, len(start))
    basis = start.new_empty((count if keep_basis else 2, len(start)))
    torch.div(start, length, out=basis[0])
    for krylov in islice(_spaces(product, basis, keep_basis), count):
        if krylov.last == 0 or stop(krylov):
            break
    return krylov


def random_start(size: int, dtype: torch.dtype, seed: int) -> Tensor:
    """A direction drawn uniformly, as a unit vector (n,): the same in every process.

    Args:
        size: n.
        dtype: float32 or float64.
        seed: Of a generator of its own.
    """
    draw = torch.Generator().manual_seed(seed)
    vector = torch.randn(size, dtype=dtype, generator=draw)
    return vector.div_(norm(vector))


def _length(start: Tensor) -> float:
    length = norm(start)
    if length == 0 or not math.isfinite(length):
        raise ArgumentError(
            f"the start has norm {length}: expected a finite one above 0",
            remedy="random_start(size, dtype, seed)",
        )
    return length


def _spaces(product: Product, basis: Tensor, keep: bool) -> Iterator[Krylov]:
    """The spaces of 1, 2, ... steps from row 0; rows are written in turn, and over again."""
    diagonal: list[float] = []
    rests: list[float] = []
    while True:
        row, step = len(diagonal) % len(basis), len(diagonal) + 1
        vector = multiply(product, basis[row])
        diagonal.append(float(orthogonalise(basis[:step], vector)[row]))
        rest = _rest(vector, diagonal, rests)
        yield Krylov(np.array(diagonal), np.array(rests), rest, basis[:step] if keep else None)
        rests.append(rest)
        torch.div(vector, rest, out=basis[step % len(basis)])
        del vector  # the next product needs the memory


def _rest(vector: Tensor, diagonal: Sequence[float], rests: Sequence[float]) -> float:
    """Norm of what a product left over; 0 where that is rounding beside the operator's norm."""
    rest = norm(vector)
    scale = float(np.abs([*diagonal, *rests]).max())
    return rest if rest > rounding(vector.dtype) * scale else 0.0


def rounding(dtype: torch.dtype) -> float:
    """The part of a product that may be rounding."""
    return ROUNDING * torch.finfo(dtype).eps


def multiply(product: Product, vector: Tensor) -> Tensor:
    """A v: (n,), which shares no memory with v.

    Raises:
        DataError: It is not finite.
    """
    found = product(vector)
    if not math.isfinite(norm(found)):
        raise DataError("the loss is not a number where its curvature is asked for")
    return found.clone() if found.data_ptr() == vector.data_ptr() else found
