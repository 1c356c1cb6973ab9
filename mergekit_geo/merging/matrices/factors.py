"""Singular values and vectors of a task matrix, on any device.

m rows, n columns, r the rank. They are found from the eigenvectors of the smaller Gram matrix in
float64: products of matrices and one symmetric eigenproblem, a little cheaper than an SVD on the
CPU and as exact as is needed here (`benchmarks/spectral.py`). A matrix of few directions, as an
adapter gives, is seen through at random first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RANK = 1e-5
"""Singular values below this share of the largest are none: float32 rounds weights that coarsely,
and the directions of nothing are arbitrary."""

PROBE = 136
"""Random directions by which a matrix is seen through: 128, and 8 to spare."""

LEAST_SIDE = 4 * PROBE
"""Smaller matrices are factorised outright."""

BLOCK, ROUNDS = 8, 4
"""Directions and rounds of the power iteration that finds the norm of what is left over."""


@dataclass(frozen=True)
class Factors:
    """u diag(s) vᵀ.

    Attributes:
        u: (m, r), in float64 like all.
        s: (r,), the largest first.
        v: (n, r).
        error: Of the factorisation, relative to the largest singular value: by how much `u` and
            `v` are not orthonormal, or what is left of the matrix, whichever is larger.
        is_low: Whether it was found by random directions.
    """

    u: Tensor
    s: Tensor
    v: Tensor
    error: float = 0.0
    is_low: bool = False

    def first(self, count: int) -> Factors:
        """The largest, in memory of their own."""
        u, s, v = self.u[:, :count].clone(), self.s[:count].clone(), self.v[:, :count].clone()
        return Factors(u, s, v, self.error, self.is_low)

    @property
    def polar(self) -> Tensor:
        """The orthogonal polar factor u vᵀ: (m, n)."""
        return self.u @ self.v.T


def factors(matrix: Tensor, seed: int = 0) -> Factors:
    """Singular values and vectors of a matrix, without those that are none.

    Args:
        matrix: (m, n).
        seed: Of random directions.

    Example:
        >>> found = factors(torch.tensor([[0.0, 2.0], [3.0, 0.0], [0.0, 0.0]]))
        >>> [round(value, 6) for value in found.s.tolist()]
        [3.0, 2.0]
        >>> factors(torch.zeros(3, 2)).s.tolist()
        []
    """
    wide = matrix.double()
    found = _low_rank(wide, seed) if min(wide.shape) >= LEAST_SIDE else None
    return found or by_gram(wide)


def by_gram(wide: Tensor) -> Factors:
    """Factorise by the eigenvectors of the smaller Gram matrix.

    Args:
        wide: (m, n), in float64.
    """
    if wide.shape[0] < wide.shape[1]:
        found = by_gram(wide.T)
        return Factors(found.v, found.s, found.u, found.error)
    values, vectors = torch.linalg.eigh(wide.T @ wide)
    s = values.flip(0).clamp(min=0).sqrt()
    s = s[s > RANK * s[0]]
    v = vectors.flip(1)[:, : len(s)]
    u = (wide @ v) / s
    return Factors(u, s, v, _unlike_identity(u))


def polar(matrix: Tensor) -> tuple[Tensor, float]:
    """The orthogonal polar factor, and its error: the nearest matrix of orthonormal columns.

    Where columns depend on each other it is a partial isometry: what is in none of them stays out.

    Args:
        matrix: (m, n), in float64.

    Example:
        >>> polar(torch.tensor([[2.0, 0.0], [0.0, -3.0]]).double())[0].tolist()
        [[1.0, 0.0], [0.0, -1.0]]
    """
    if not matrix.shape[1]:
        return matrix, 0.0
    found = by_gram(matrix)
    return found.polar, found.error


def _low_rank(wide: Tensor, seed: int) -> Factors | None:
    """All that is not none of a matrix of few directions (Halko 2011); None of any other."""
    draw = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(wide @ _random(wide, PROBE, draw)).Q
    inside = q.T @ wide
    u, s, vh = torch.linalg.svd(inside, full_matrices=False)
    left = _left_over(wide, q, inside, draw)
    if not left <= RANK / 2 * float(s[0]):
        return None
    rank = int((s > RANK * s[0]).sum())
    error = left / float(s[0]) if rank else 0.0
    return Factors(q @ u[:, :rank], s[:rank], vh[:rank].T, error, is_low=True)


def _left_over(wide: Tensor, q: Tensor, inside: Tensor, draw: torch.Generator) -> float:
    """The largest singular value of `wide - q @ inside`, by power iteration."""
    x = _random(wide, BLOCK, draw)
    size = 0.0
    for _ in range(ROUNDS):
        x = torch.linalg.qr(x).Q
        y = wide @ x - q @ (inside @ x)
        size = float(torch.linalg.matrix_norm(y, 2))
        x = wide.T @ y - inside.T @ (q.T @ y)
    return size


def _random(wide: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """Random columns, the same on every device."""
    return torch.randn(wide.shape[1], count, generator=draw, dtype=wide.dtype).to(wide.device)


def _unlike_identity(u: Tensor) -> float:
    """Largest deviation of columns from being orthonormal."""
    if not u.shape[1]:
        return 0.0
    products = u.T @ u
    products.diagonal().sub_(1.0)
    return float(products.abs().max())
