"""Merging one tensor, a chunk at a time, in buffers that do not grow with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from math import inf
from typing import Any

from mergekit_geo.checkpoints.naming import is_transposed
from mergekit_geo.errors import AntipodalError
from mergekit_geo.geometry.by_row import ByRow
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.masked import Elementwise
from mergekit_geo.geometry.rule import Coefficients, Rule
from mergekit_geo.merging.blend import Blend, Role
from mergekit_geo.merging.checked_gram import IN_WRITING, CheckedGrams
from mergekit_geo.merging.chunk_writer import ChunkWriter, Sink
from mergekit_geo.merging.kernels import Chunk, Kernel
from mergekit_geo.merging.masked import MaskedTensor
from mergekit_geo.merging.memo import Memo
from mergekit_geo.merging.overflow import reach, reach_of_sum
from mergekit_geo.merging.reader import CHUNK, Reader
from mergekit_geo.merging.rows import RowTensor
from mergekit_geo.merging.tensor_record import TensorRecord
from mergekit_geo.merging.weighed import Weighed
from mergekit_geo.merging.weighed_tensor import WeighedTensor
from mergekit_geo.merging.whole import TURN, Whole


class TensorMerger:
    """Merges the tensors of a blend one after another, in buffers of its own.

    Args:
        blend: What is merged.
        sink: Where it goes.
        kernel: Does the arithmetic.
        advance: Called with the number of elements done, after each chunk.
        allow_nonfinite: Go on over NaN and infinity.
        room: Bytes of a tensor that are held between two passes.
        memo: What merges of the same anchors found.
    """

    def __init__(
        self,
        blend: Blend,
        sink: Sink,
        kernel: Kernel,
        advance: Callable[[int], None],
        *,
        allow_nonfinite: bool = False,
        room: int = 0,
        memo: Memo | None = None,
    ) -> None:
        self.blend, self.kernel, self.advance = blend, kernel, advance
        self.allow_nonfinite = allow_nonfinite
        reader = Reader(blend, room)
        self._read, self._out = reader.read, ChunkWriter(blend, sink, advance)
        self._grams = CheckedGrams(
            blend, kernel, reader, advance, memo or Memo(), allow_nonfinite=allow_nonfinite
        )
        # by the kind of the rule; any other is known by its coefficients
        self._ways: tuple[tuple[type, Callable[[str, Any], TensorRecord]], ...] = (
            (Elementwise, self._mask),
            (ByRow, self._by_row),
            (Whole, self._whole),
            (Weighed, self._weigh),
        )

    def merge(self, name: str) -> TensorRecord:
        """Merge one tensor into the sink.

        Raises:
            NonFiniteError: An anchor holds NaN or infinity, or finite elements sum to one.
            AntipodalError: The rule has no answer for this tensor.
        """
        self._out.begin()
        record = self._merge(name)
        if not self.allow_nonfinite:
            self._out.refuse_lost(name)
        record = replace(record, lost=self._out.lost)
        taken = self.blend.takers.get(name)
        return record if taken is None else record.among(taken, len(self.blend.anchors))

    def _merge(self, name: str) -> TensorRecord:
        if self.blend.role(name) is Role.DONATED:
            self._out.copy(name)
            return TensorRecord("copied")
        rule = self.blend.rule_for(name)
        for kind, merge in self._ways:
            if isinstance(rule, kind):
                return merge(name, rule)
        if not rule.needs_gram:
            return self._combine(name, rule.coefficients(None))
        gram, counts = self._grams.of(name, CHUNK)
        coefficients = _coefficients(name, rule, gram)
        self._write(name, coefficients.values, gram)
        return TensorRecord(coefficients.branch, coefficients.values, gram, counts)

    def _combine(self, name: str, coefficients: Coefficients) -> TensorRecord:
        """Coefficients that are known before the tensor is read: once is enough."""
        if known := self._grams.known(name, CHUNK, IN_WRITING):
            gram, counts = known
            self._write(name, coefficients.values, gram)
        else:
            parts = self._write_and_gram(name, coefficients.values)
            gram, counts = self._grams.found(name, IN_WRITING, parts)
        return TensorRecord(coefficients.branch, coefficients.values, gram, counts)

    def _mask(self, name: str, rule: Elementwise) -> TensorRecord:
        """Element by element; as a weighted mean where an anchor is not finite."""
        shape, read = self.blend.first(name).shape, partial(self._read, name)
        task = MaskedTensor(name, shape, rule, read, CHUNK, self._grams.memo_of(name))
        known = self._grams.known(name, task.step)
        before = task.before(once=not known)
        if known:
            gram, counts = known
        else:
            parts = self._grams.gathered(name, next(before))
            gram, counts = self._grams.found(name, task.step, parts)
        if counts:
            return self._mean(name, rule, gram, counts)
        for anchors in chain.from_iterable(before):
            self.advance(anchors[0].count)
        most = inf if gram is None else reach_of_sum(gram, task.sum)
        for start, anchors, masks in task.masks():
            self._out.put(name, start, anchors, partial(task.add, masks), most)
        return TensorRecord(rule.name, rule.weights, gram, counts, tuple(task.kept))

    def _by_row(self, name: str, rule: ByRow) -> TensorRecord:
        """Row by row; a row in which an anchor is not finite as a weighted mean."""
        shape, dtype = self.blend.first(name).shape, self.blend.output_info(name).dtype
        task = RowTensor(shape, dtype, rule, self.kernel, partial(self._read, name), CHUNK)
        for anchors in task.before():
            self.advance(anchors[0].count)
        for part in task.parts():
            make, most = partial(task.combine, part.factors), reach(part.gram, part.largest)
            self._out.put(name, part.start, part.anchors, make, most)
        gram, counts = self._grams.checked(name, task.gram)
        return TensorRecord(rule.branch, tuple(map(float, task.mean)), gram, counts)

    def _weigh(self, name: str, rule: Weighed) -> TensorRecord:
        """Each element by statistics; where an anchor is not finite, neither is the output."""
        task = WeighedTensor(name, self.blend.first(name).shape, rule)
        known = self._grams.known(name, CHUNK, IN_WRITING)
        parts = [*self._put_weighed(name, task, known and known[0])]
        gram, counts = known or self._grams.found(name, IN_WRITING, parts)
        return TensorRecord(rule.name, task.factors, gram, counts)

    def _put_weighed(self, name: str, task: WeighedTensor, known: Gram | None) -> Iterator[Gram]:
        dtype, bounds = self.blend.output_info(name).dtype, task.rule.bounds
        for start, anchors in self._read(name):
            gram = known or self.kernel.gram(anchors, dtype)
            make = partial(task.combine, task.read(start, start + anchors[0].count))
            self._out.put(name, start, anchors, make, reach(gram, bounds))
            task.count(anchors[0].count)
            yield gram

    def _whole(self, name: str, rule: Whole) -> TensorRecord:
        """All of a matrix at once; as a weighted mean where an anchor is not finite."""
        from mergekit_geo.merging import whole_tensor  # loads torch

        with TURN:
            held = whole_tensor.Gathered(self.blend.infos(name))
            filled = held.filled(self._read(name, CHUNK))
            if known := self._grams.known(name, CHUNK):
                for anchors in filled:
                    self.advance(anchors[0].count)
            gram, counts = known or self._grams.found(
                name, CHUNK, self._grams.gathered(name, filled)
            )
            if counts:
                return self._mean(name, rule, gram, counts)
            device, config = self.kernel.device, self.blend.donor.config
            turned = rule.outputs_first and is_transposed(name, config)
            tensors = held.tensors(device, turned=turned)
            made = rule.make(name, tensors, device, partial(self.advance, 0))
            self._out.put_whole(name, made.values.T if turned else made.values)
        return TensorRecord(made.branch, rule.weights, gram, error=made.error)

    def _mean(
        self, name: str, rule: Rule, gram: Gram | None, counts: tuple[int, ...]
    ) -> TensorRecord:
        """A weighted mean, where an anchor is not finite."""
        self._write(name, rule.convex, gram)
        return TensorRecord("linear: not finite", rule.convex, gram, counts)

    def _write(self, name: str, coefficients: Sequence[float], gram: Gram | None) -> None:
        most = inf if gram is None else reach(gram, coefficients)
        make = self._by(coefficients)
        for start, anchors in self._read(name):
            self._out.put(name, start, anchors, make, most)

    def _write_and_gram(self, name: str, coefficients: Sequence[float]) -> Iterator[Gram]:
        make = self._by(coefficients)
        for start, anchors in self._read(name):
            out = self._out.room(name, anchors[0].count)
            gram = self.kernel.combine_and_gram(anchors, coefficients, out)
            self._out.put_made(name, start, anchors, out, make, reach(gram, coefficients))
            yield gram

    def _by(self, coefficients: Sequence[float]) -> Callable[[Sequence[Chunk], Chunk], None]:
        return lambda anchors, out: self.kernel.combine(anchors, coefficients, out)


def _coefficients(name: str, rule: Rule, gram: Gram | None) -> Coefficients:
    if gram is None:
        return Coefficients(rule.convex, "linear: not finite")
    try:
        return rule.coefficients(gram)
    except AntipodalError as error:
        error.where = f"tensor {name}"
        raise
