"""The two kernels that all merging is made of, and where they can run.

Both take k chunks of stored elements, of any float dtypes. `combine` sums them, each times its
coefficient, in float64, and rounds once; `gram` gives the inner products of their differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.geometry.gram import Gram, Matrix
from mergekit_geo.portable import cores

EXPONENTS: dict[str, np.unsignedinteger[Any]] = {
    "BF16": np.uint16(0x7F80),
    "F16": np.uint16(0x7C00),
    "F32": np.uint32(0x7F800000),
    "F64": np.uint64(0x7FF0000000000000),
}
"""The bits of the exponent: all of them set in NaN and infinity alone."""

MOST_WORKERS = 16
"""More than so many threads wait for memory rather than for cores."""


@dataclass(frozen=True)
class Chunk:
    """Elements that follow each other in one tensor.

    Attributes:
        data: Their bytes.
        dtype: `F16`, `BF16`, `F32` or `F64`.
    """

    data: Bytes
    dtype: str

    @property
    def count(self) -> int:
        """Number of elements."""
        return len(self.data) // EXPONENTS[self.dtype].itemsize

    def part(self, start: int, stop: int) -> Chunk:
        """Some of the elements, in the same memory."""
        size = EXPONENTS[self.dtype].itemsize
        return Chunk(self.data[start * size : stop * size], self.dtype)

    def transposed(self, width: int) -> Chunk:
        """A copy, with the columns of rows of `width` elements one after the other."""
        rows = self.data.view(EXPONENTS[self.dtype].dtype).reshape(-1, width)
        return Chunk(np.ascontiguousarray(rows.T).reshape(-1).view(np.uint8), self.dtype)

    @property
    def values(self) -> NDArray[np.floating[Any]]:
        """The numbers that they are, bfloat16 as float32."""
        if self.dtype == "BF16":
            return (self.data.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
        return self.data.view({"F16": np.float16, "F32": np.float32, "F64": np.float64}[self.dtype])

    @property
    def nonfinite(self) -> int:
        """How many elements are NaN or infinite.

        >>> Chunk(np.array([1.0, np.nan, np.inf]).view(np.uint8), "F64").nonfinite
        2
        """
        mask = EXPONENTS[self.dtype]
        return int(np.count_nonzero((self.data.view(mask.dtype) & mask) == mask))


class Kernel(Protocol):
    """Something that can run the two kernels; used by several threads at a time."""

    @property
    def workers(self) -> int:
        """How many threads it keeps busy."""

    @property
    def device(self) -> str:
        """Where it works, as torch names it."""

    def gram(self, anchors: Sequence[Chunk], dtype: str = "F64") -> Gram:
        """Inner products of k chunks.

        Products are those of float64; where the anchors are halves and the merged tensor, of
        `dtype`, will be too, those within a block may be of float32, as in `combine_and_gram`.
        """

    def combine(self, anchors: Sequence[Chunk], coefficients: Sequence[float], out: Chunk) -> None:
        """Overwrite `out` with the sum of k chunks, each times its coefficient.

        Summed in float64, in order, and rounded once to `out`'s dtype. Zero coefficients are left
        out, so that an end of a path is its anchor to the bit; the first product starts the sum,
        so that negative zeros survive.
        """

    def combine_and_gram(
        self, anchors: Sequence[Chunk], coefficients: Sequence[float], out: Chunk
    ) -> Gram:
        """Combine chunks into `out`, and return their inner products, in one pass."""

    def grams(self, anchors: Sequence[Chunk], width: int, dtype: str = "F64") -> Matrix:
        """Inner products, as `gram` has them, of each row of `width` elements: (n, k, k)."""

    def combine_rows(self, anchors: Sequence[Chunk], factors: Matrix, out: Chunk) -> None:
        """Overwrite `out` as `combine` does, each of n rows with its own factors: (n, k)."""


def core_count() -> int:
    """Cores that this process may use, at most `MOST_WORKERS`."""
    return min(cores(), MOST_WORKERS)
