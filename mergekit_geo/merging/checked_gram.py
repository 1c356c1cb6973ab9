"""Inner products of the anchors' tensors: checked for what is not finite, and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from mergekit_geo.errors import NonFiniteError
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.merging.blend import Blend, is_bound
from mergekit_geo.merging.kernels import Chunk, Kernel
from mergekit_geo.merging.memo import Memo, TensorMemo
from mergekit_geo.merging.reader import Reader

Checked = tuple[Gram | None, tuple[int, ...]]
"""A Gram matrix; none where an anchor is not finite, with how many elements of each are not."""

IN_WRITING = 0
"""Step of a Gram matrix that was made with the output, in one pass."""


class CheckedGrams:
    """The inner products of one tensor after another.

    Args:
        blend: What is merged.
        kernel: Does the arithmetic.
        reader: Reads the anchors.
        advance: Called with the number of elements done, after each chunk of `gathered`.
        memo: What merges of the same anchors found.
        allow_nonfinite: Go on over NaN and infinity.
    """

    def __init__(
        self,
        blend: Blend,
        kernel: Kernel,
        reader: Reader,
        advance: Callable[[int], None],
        memo: Memo,
        *,
        allow_nonfinite: bool,
    ) -> None:
        self.blend, self.kernel, self.memo, self.advance = blend, kernel, memo, advance
        self.allow_nonfinite, self._read = allow_nonfinite, reader.read

    def of(self, name: str, step: int) -> Checked:
        """Inner products of a tensor's anchors, in a pass of their own if they are not known.

        Args:
            name: Of the tensor.
            step: Elements that are read at a time.

        Raises:
            NonFiniteError: An anchor holds NaN or infinity.
        """
        parts = (anchors for _, anchors in self._read(name, step))
        return self.known(name, step) or self.found(name, step, self.gathered(name, parts))

    def known(self, name: str, *steps: int) -> Checked | None:
        """What a merge of the same anchors found, reading so many elements at a time."""
        if (memo := self.memo_of(name)) is None:
            return None
        dtype = self.blend.output_info(name).dtype
        found: Iterator[Checked | None] = (memo.get("gram", dtype, step) for step in steps)
        known = next(filter(None, found), None)
        if known and known[1]:
            self._refuse_nonfinite(name, known[1])
        return known

    def found(self, name: str, step: int, parts: Iterable[Gram]) -> Checked:
        """Sum and check what is found now, and keep it for merges to come."""
        checked = self.checked(name, self._sum(name, parts))
        if memo := self.memo_of(name):
            memo.keep(checked, "gram", self.blend.output_info(name).dtype, step)
        return checked

    def gathered(self, name: str, parts: Iterable[Sequence[Chunk]]) -> Iterator[Gram]:
        """Inner products of every chunk."""
        dtype = self.blend.output_info(name).dtype
        for anchors in parts:
            self.advance(anchors[0].count)
            yield self.kernel.gram(anchors, dtype)

    def checked(self, name: str, gram: Gram) -> Checked:
        """The Gram matrix, or None with the counts of what is not finite.

        Products of halves can overflow float32 where the values are fine: then float64 decides.
        """
        if gram.is_finite:
            return gram, ()
        counts = [0] * len(self.blend.anchors_of(name))
        for _, anchors in self._read(name):
            counts = [n + anchor.nonfinite for n, anchor in zip(counts, anchors, strict=True)]
        if not any(counts):
            wide = self._sum(name, (self.kernel.gram(anchors) for _, anchors in self._read(name)))
            return (wide if wide.is_finite else None), ()
        self._refuse_nonfinite(name, counts)
        return None, tuple(counts)

    def memo_of(self, name: str) -> TensorMemo | None:
        """What is kept of a tensor; None where nothing can be."""
        return self.memo.of(self.blend, name)

    def _sum(self, name: str, parts: Iterable[Gram]) -> Gram:
        size = len(self.blend.anchors_of(name))
        with np.errstate(over="ignore", invalid="ignore"):  # who checks the sum finds infinities
            return sum(parts, start=Gram(np.zeros((size, size)), 0))

    def _refuse_nonfinite(self, name: str, counts: Sequence[int]) -> None:
        if self.allow_nonfinite or is_bound(name):
            return
        found = [
            f"{anchor.name} ({count})"
            for anchor, count in zip(self.blend.anchors_of(name), counts, strict=True)
            if count
        ]
        raise NonFiniteError(
            f"NaN or infinite elements in {', '.join(found)}",
            where=f"tensor {name}",
            remedy="leave that model out, or --allow-nonfinite to merge all the same",
        )
