"""Inner products of k anchors, and the norms, angles and distances that follow from them.

The matrix is over (a0, a1 - a0, ..., ak-1 - a0). Products of the anchors themselves would
cancel: for fine-tunes 1e-3 apart, a squared distance from them came out 119 % wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Gram:
    """Inner products of one tensor (or many, summed) across k anchors.

    Those of many rows at once have a first dimension more, here and in all that follows.

    Attributes:
        differences: (k, k) inner products of (a0, a1 - a0, ..., ak-1 - a0).
        count: Number of elements that were summed over, of each row.

    Example:
        >>> gram = Gram.of(np.array([[3.0, 4.0], [4.0, 3.0]]))
        >>> gram.norms.tolist(), round(float(gram.cosines[0, 1]), 12)
        ([5.0, 5.0], 0.96)
    """

    differences: Matrix
    count: int

    @classmethod
    def of(cls, anchors_kn: Matrix) -> Gram:
        """The Gram matrix of k vectors of n elements, whole: the reference for the kernel."""
        rows = np.array(anchors_kn, dtype=np.float64)
        rows[1:] -= rows[0]
        return cls(rows @ rows.T, rows.shape[1])

    def __add__(self, other: Gram) -> Gram:
        return Gram(self.differences + other.differences, self.count + other.count)

    @property
    def is_finite(self) -> bool:
        """Whether every product is a number."""
        return bool(np.isfinite(self.differences).all())

    @cached_property
    def _offsets(self) -> Matrix:
        """Inner products of the offsets a_i - a0, whose first is zero: (k, k)."""
        offsets = self.differences.copy()
        offsets[..., 0, :] = offsets[..., :, 0] = 0.0
        return offsets

    @cached_property
    def _excess(self) -> Matrix:
        """|a_i|^2 - |a0|^2, free of cancellation: (k,)."""
        cross = self.differences[..., 0, :].copy()
        cross[..., 0] = 0.0
        return np.asarray(2 * cross + _diagonal(self._offsets))

    @cached_property
    def norms(self) -> Matrix:
        """Euclidean norm of each anchor: (k,)."""
        squares = self.differences[..., :1, 0] + self._excess
        return np.asarray(np.sqrt(np.maximum(squares, 0.0)))

    @cached_property
    def distances(self) -> Matrix:
        """Euclidean distance of each pair: (k, k)."""
        square = _diagonal(self._offsets)
        squares = square[..., :, None] + square[..., None, :] - 2 * self._offsets
        return np.asarray(np.sqrt(np.maximum(squares, 0.0)))

    @cached_property
    def angles(self) -> Matrix:
        """Angle of each pair in radians, 0 where a norm is 0: (k, k).

        From the chord between the unit vectors, |u - v|^2 = (d^2 - (|a| - |b|)^2) / (|a| |b|),
        which keeps its digits at small angles, where arccos loses them.
        """
        norms, excess = self.norms, self._excess
        area = norms[..., :, None] * norms[..., None, :]
        total = norms[..., :, None] + norms[..., None, :]
        safe_total = np.where(total > 0, total, 1.0)
        gap = (excess[..., :, None] - excess[..., None, :]) / safe_total
        chord = (self.distances**2 - gap**2) / np.where(area > 0, area, 1.0)
        half = np.clip(np.sqrt(np.maximum(chord, 0.0)) / 2, 0.0, 1.0)
        angles: Matrix = np.where(area > 0, 2 * np.arcsin(half), 0.0)
        angles[..., np.eye(norms.shape[-1], dtype=bool)] = 0.0
        return angles

    @cached_property
    def cosines(self) -> Matrix:
        """Cosine similarity of each pair: (k, k)."""
        return np.cos(self.angles)


def _diagonal(matrix: Matrix) -> Matrix:
    return np.diagonal(matrix, axis1=-2, axis2=-1)
