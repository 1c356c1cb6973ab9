"""The product of two thin matrices, added to a matrix a chunk at a time.

R rows, C columns, r the rank. A chunk is a run of elements of the flattened (R, C) matrix; only
what it needs of the product is computed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergekit_geo.checkpoints.reading import Bytes

Array = NDArray[Any]

_kept = threading.local()

LENGTH = 1 << 18
"""Elements that are added up at a time."""

EXACT: dict[str, type[np.floating[Any]]] = {
    "F16": np.float32,
    "BF16": np.float32,
    "F32": np.float64,
    "F64": np.float64,
}
"""Dtype of sums by stored dtype: wide enough that only one rounding happens."""


@dataclass(frozen=True)
class LowRank:
    """A change of a matrix W to `W + left @ right`, rescaled where `magnitude` is given.

    Attributes:
        left: (R, r).
        right: (r, C).
        magnitude: DoRA (Liu 2024, equation 5): the norm that every row of the result has, (R,), or
            every column, (C,); None leaves norms alone.
        by_column: Whether the magnitudes are of columns.
    """

    left: Array
    right: Array
    magnitude: Array | None = None
    by_column: bool = False

    @property
    def count(self) -> int:
        """Elements of W."""
        return int(self.left.shape[0] * self.right.shape[1])

    def add(self, values: Array, start: int) -> None:
        """Add the product to elements of W, in place.

        Args:
            values: Consecutive elements of the flattened W, in the matrices' dtype.
            start: Position of the first.

        Example:
            >>> change = LowRank(np.array([[0.5], [1.0]]), np.array([[10.0, 20.0]]))
            >>> values = np.ones(3)
            >>> change.add(values, 1)
            >>> values
            array([11., 11., 21.])
        """
        for block, rows, columns in self._blocks(values, start):
            product = scratch("product", block.size, block.dtype.type).reshape(block.shape)
            np.matmul(self.left[rows], self.right[:, columns], out=product)
            np.add(block, product, out=block)

    def rescale(self, values: Array, start: int, factors: Array) -> None:
        """Multiply elements by the factor of their row, or of their column, in place."""
        for block, rows, columns in self._blocks(values, start):
            factor = factors[columns] if self.by_column else factors[rows, None]
            np.multiply(block, factor, out=block)

    def factors(self, read: Callable[[int, Array], None]) -> Array:
        """Factors that give rows, or columns, of the sum their magnitude (DoRA).

        Args:
            read: Fills an array with the elements of W from a position on.
        """
        assert self.magnitude is not None
        squares = np.zeros(len(self.magnitude))
        for start in range(0, self.count, LENGTH):
            count = min(LENGTH, self.count - start)
            values = scratch("values", count, self.left.dtype.type)
            read(start, values)
            self.add(values, start)
            for block, rows, columns in self._blocks(values, start):
                place = columns if self.by_column else rows
                squares[place] += np.square(block, dtype=np.float64).sum(0 if self.by_column else 1)
        with np.errstate(divide="ignore", invalid="ignore"):  # a row of zeros has no direction
            return np.asarray((self.magnitude / np.sqrt(squares)).astype(self.left.dtype))

    def _blocks(self, values: Array, start: int) -> Iterator[tuple[Array, slice, slice]]:
        """A chunk as rectangles of W: its first row's end, whole rows, its last row's beginning.

        Yields views of `values`, and the rows and columns that they are.
        """
        width, stop, done = self.right.shape[1], start + len(values), start
        while done < stop:
            row, column = divmod(done, width)
            whole = 1 if column else max((stop - done) // width, 1)
            end = min(done - column + whole * width, stop)
            block = values[done - start : end - start].reshape(whole, -1)
            yield block, slice(row, row + whole), slice(column, column + block.shape[1])
            done = end


def widen(data: Bytes, dtype: str, out: Array) -> None:
    """Stored elements as floats to calculate with.

    Example:
        >>> out = np.empty(2, np.float32)
        >>> widen(np.array([0x80, 0x3F, 0x00, 0xC0], np.uint8), "BF16", out)
        >>> out
        array([ 1., -2.], dtype=float32)
    """
    if dtype != "BF16":
        out[:] = data.view({"F16": np.float16, "F32": np.float32, "F64": np.float64}[dtype])
    elif out.dtype == np.float32:
        np.left_shift(data.view(np.uint16), np.uint32(16), out=out.view(np.uint32))
    else:
        halves = np.empty(len(out), np.float32)
        widen(data, dtype, halves)
        out[:] = halves


def scratch(purpose: str, count: int, dtype: type[np.generic]) -> NDArray[Any]:
    """Uninitialised elements of this thread's own, overwritten by the next call of a purpose.

    Fresh pages of memory cost more than the sums made in them.

    Args:
        purpose: Several that are used at a time have different ones.
        count: Number of elements.
        dtype: Of the elements.

    Example:
        >>> first = scratch("sum", 3, np.float32)
        >>> np.shares_memory(first, scratch("sum", 2, np.float64))
        False
        >>> np.shares_memory(scratch("sum", 2, np.float64), scratch("sum", 4, np.float32))
        True
    """
    nbytes = count * np.dtype(dtype).itemsize
    kept: NDArray[np.uint8] | None = getattr(_kept, purpose, None)
    if kept is None or len(kept) < nbytes:
        kept = np.empty(nbytes, np.uint8)
        setattr(_kept, purpose, kept)
    return kept[:nbytes].view(dtype)
