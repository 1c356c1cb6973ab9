"""Merging one tensor row by row, a chunk of whole rows at a time.

Every row has inner products and factors of its own. A chunk's are found and used before the next is
read; those of columns are summed over a first pass. All in numpy, in float64, whatever the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod

import numpy as np

from mergekit_geo.geometry.by_row import ByRow
from mergekit_geo.geometry.gram import Gram, Matrix
from mergekit_geo.geometry.rule import ModelWeights
from mergekit_geo.merging.kernels import Chunk
from mergekit_geo.merging.masked import Chunks
from mergekit_geo.merging.native_masks import mask_kernel

BLOCK = 1 << 14
"""Elements that are widened at a time, of each anchor: they stay in the cache."""


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
        rule: Gives the factors of rows.
        read: Reads it, in chunks of so many elements.
        chunk: How many are wanted; whole rows are read.

    Attributes:
        mean: Mean factor of each anchor, known at the end.
        gram: Inner products over the tensor, known at the end.
    """

    def __init__(
        self, shape: tuple[int, ...], rule: ByRow, read: Callable[[int], Chunks], chunk: int
    ) -> None:
        self.rule, self._read, self._store = rule, read, mask_kernel().store
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
                self._grams += self._seen(self._products(anchors), anchors[0].count)
                yield anchors

    def parts(self) -> Iterator[Part]:
        """Chunk by chunk, with the factors of its rows."""
        known = self._factors(self._grams, self._rows) if self.rule.columns else None
        for start, anchors in self._read(self._step):
            count, factors = anchors[0].count, known
            if factors is None:
                products = self._seen(self._products(anchors), count)
                factors = self._factors(products, self.width)
            self.mean += count / self.width / self._rows * factors.mean(axis=0)
            yield Part(start, anchors, self.gram, factors)

    @_beyond_range
    def combine(self, factors: Matrix, anchors: Sequence[Chunk], out: Chunk) -> None:
        """Overwrite `out` with the anchors' sum, each row by its own factors."""
        found = np.empty((out.count // self.width, self.width))
        for block, rows in self._blocks(anchors):
            own = factors if self.rule.columns else factors[block]
            shaped = own.T[:, None, :] if self.rule.columns else own.T[:, :, None]
            terms = [c * row for c, row in zip(shaped, rows, strict=True) if c.any()]
            found[block] = reduce(np.add, terms) if terms else 0.0  # negative zeros survive
        self._store(found.ravel(), out)

    def _seen(self, products: Matrix, count: int) -> Matrix:
        self.gram += Gram(products.sum(axis=0), count)
        return products

    @_beyond_range
    def _products(self, anchors: Sequence[Chunk]) -> Matrix:
        """Inner products of each row, or of the parts of each column in a chunk: (n, k, k)."""
        size, count = len(anchors), anchors[0].count // self.width
        over = "rc,rc->c" if self.rule.columns else "rc,rc->r"
        found = np.zeros((size, size, self.width if self.rule.columns else count))
        for block, rows in self._blocks(anchors):
            moved = [rows[0], *(row - rows[0] for row in rows[1:])]
            part = slice(None) if self.rule.columns else block
            for i, row in enumerate(moved):
                for j, other in enumerate(moved[: i + 1]):
                    found[i, j, part] += np.einsum(over, row, other)
        lower = np.ascontiguousarray(found.transpose(2, 0, 1))
        return np.asarray(lower + np.tril(lower, -1).transpose(0, 2, 1))

    def _blocks(self, anchors: Sequence[Chunk]) -> Iterator[tuple[slice, list[Matrix]]]:
        """A few rows at a time, of all anchors, in float64."""
        step = max(1, BLOCK // self.width)
        for first in range(0, anchors[0].count // self.width, step):
            block = slice(first, first + step)
            ends = first * self.width, (first + step) * self.width
            yield (
                block,
                [
                    anchor.part(*ends).values.astype(np.float64).reshape(-1, self.width)
                    for anchor in anchors
                ],
            )

    def _factors(self, products: Matrix, count: int) -> Matrix:
        """Of every row; the convex ones where an anchor is not finite."""
        finite = np.asarray(np.isfinite(products).all(axis=(1, 2)))
        grams = Gram(np.where(finite[:, None, None], products, 0.0), count)
        return np.where(finite[:, None], self.rule.rule.of_rows(grams), self.rule.convex)
