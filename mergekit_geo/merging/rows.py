"""Merging one tensor row by row, a chunk of whole rows at a time.

Every row has inner products and factors of its own. A chunk's are found and used before the next is
read. Columns are the rows of chunks turned about, and their inner products are summed over a first
pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from mergekit_geo.geometry.by_row import ByRow
from mergekit_geo.geometry.gram import Gram, Matrix
from mergekit_geo.geometry.rule import ModelWeights
from mergekit_geo.merging.kernels import Chunk, Kernel
from mergekit_geo.merging.masked import Chunks

_beyond_range = np.errstate(over="ignore", invalid="ignore")
"""Infinities are looked for where they matter, and counted."""


@dataclass(frozen=True)
class Part:
    """A chunk of whole rows, and what they are merged by.

    Attributes:
        start: Place of the first element.
        anchors: Their chunks.
        gram: Inner products over them and all before; over the tensor where those are known.
        factors: Of each unit, a row or a column: (n, k).
    """

    start: int
    anchors: list[Chunk]
    gram: Gram
    factors: Matrix

    @property
    def largest(self) -> ModelWeights:
        """The largest factor of each anchor, without its sign."""
        return tuple(map(float, np.abs(self.factors).max(axis=0)))


class RowTensor:
    """One tensor of a merge by rows.

    Args:
        shape: Its shape.
        dtype: Of the output.
        rule: Gives the factors of rows.
        kernel: Does the arithmetic.
        read: Reads it, in chunks of so many elements.
        chunk: How many are wanted; whole rows are read.

    Attributes:
        mean: Mean factor of each anchor, known at the end.
        gram: Inner products over the tensor, known at the end.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: str,
        rule: ByRow,
        kernel: Kernel,
        read: Callable[[int], Chunks],
        chunk: int,
    ) -> None:
        self.rule, self.kernel, self._dtype, self._read = rule, kernel, dtype, read
        self.width = max(1, prod(shape[1:]) if rule.columns else prod(shape[-1:]))
        self._step = max(1, chunk // self.width) * self.width
        self._rows = max(1, prod(shape) // self.width)
        size = len(rule.weights)
        self._grams = np.zeros((self.width if rule.columns else 0, size, size))
        self.mean, self.gram = np.zeros(size), Gram(np.zeros((size, size)), 0)

    def before(self) -> Iterator[list[Chunk]]:
        """The pass that is needed before the writing, if one is."""
        if self.rule.columns:
            for _, anchors in self._read(self._step):
                turned = [anchor.transposed(self.width) for anchor in anchors]
                self._grams += self._products(turned, anchors[0].count // self.width)
                yield anchors

    def parts(self) -> Iterator[Part]:
        """Chunk by chunk, with the factors of its rows."""
        known = self._factors(self._grams, self._rows) if self.rule.columns else None
        for start, anchors in self._read(self._step):
            factors = known
            if factors is None:
                factors = self._factors(self._products(anchors, self.width), self.width)
            self.mean += anchors[0].count / self.width / self._rows * factors.mean(axis=0)
            yield Part(start, anchors, self.gram, factors)

    def combine(self, factors: Matrix, anchors: Sequence[Chunk], out: Chunk) -> None:
        """Overwrite `out` with the anchors' sum, each row by its own factors."""
        if not self.rule.columns:
            self.kernel.combine_rows(anchors, factors, out)
            return
        turned = [anchor.transposed(self.width) for anchor in anchors]
        merged = Chunk(np.empty_like(out.data), out.dtype)
        self.kernel.combine_rows(turned, factors, merged)
        out.data[:] = merged.transposed(out.count // self.width).data

    @_beyond_range
    def _products(self, anchors: Sequence[Chunk], width: int) -> Matrix:
        """Inner products of each row; in float64 where products of halves overflow float32."""
        found = self.kernel.grams(anchors, width, self._dtype)
        if not np.isfinite(found).all():
            found = self.kernel.grams(anchors, width)
        self.gram += Gram(found.sum(axis=0), anchors[0].count)
        return found

    def _factors(self, products: Matrix, count: int) -> Matrix:
        """Factors of every row; the convex ones where an anchor is not finite."""
        finite = np.asarray(np.isfinite(products).all(axis=(1, 2)))
        grams = Gram(np.where(finite[:, None, None], products, 0.0), count)
        return np.where(finite[:, None], self.rule.rule.of_rows(grams), self.rule.convex)
