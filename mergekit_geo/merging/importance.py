"""How important changes are to Arcee Fusion: their size times their row's divergence."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mergekit_geo.geometry.gram import Matrix
from mergekit_geo.merging.kernels import Chunk
from mergekit_geo.merging.mask_kernel import Keys

MOST_ROWS = 1 << 21
"""Rows of a tensor whose divergences are remembered, 8 MB; those of larger ones are found again."""

BLOCK = 1 << 14
"""Elements that are widened at a time: they stay in the cache."""

FLOOR = 1e-8
"""Added to probabilities."""

Divergences = NDArray[np.float32]


class Importances:
    """Turns keys of sizes into keys of importances, for one tensor.

    Args:
        rows: Of the tensor.
        columns: Elements of a row; chunks are whole rows.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.columns, self._known = columns, rows <= MOST_ROWS
        self._rows: dict[int, Divergences] = {}

    def weigh(self, start: int, base: Chunk, model: Chunk, keys: Keys) -> None:
        """Multiply the sizes that keys stand for by their rows' divergences, in place."""
        rows = self._rows.get(start)
        if rows is None:
            rows = np.concatenate([*self._divergences(base, model)])
        if self._known:
            self._rows[start] = rows
        sizes = keys.view(np.float32).reshape(-1, self.columns)
        sizes *= rows[:, None]

    def _divergences(self, base: Chunk, model: Chunk) -> Iterator[Divergences]:
        step = max(1, BLOCK // self.columns) * self.columns
        for first in range(0, base.count, step):
            old, new = (
                chunk.part(first, first + step).values.astype(np.float64) for chunk in (base, model)
            )
            found = divergences(*(each.reshape(-1, self.columns) for each in (new, old)))
            yield found.astype(np.float32)


def divergences(new: Matrix, old: Matrix) -> Matrix:
    """Kullback-Leibler divergence of the softmax of each row of `new` from that of `old`: (n,).

    As in mergekit, 1e-8 is added to every probability.

    Example:
        >>> divergences(np.array([[0.0, 1.0]]), np.array([[0.0, 0.0]])).round(6).tolist()
        [0.110944]
    """
    with np.errstate(invalid="ignore", over="ignore"):  # who reads the tensor counts those
        p, q = _softmax(new) + FLOOR, _softmax(old) + FLOOR
        return np.asarray(np.maximum(np.einsum("rc,rc->r", p, np.log(p / q)), 0.0))


def _softmax(rows: Matrix) -> Matrix:
    found = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(found / found.sum(axis=1, keepdims=True))
