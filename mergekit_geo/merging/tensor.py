"""Merging one tensor, a chunk at a time, in buffers that do not grow with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from mergekit_geo.checkpoints.header import ITEM_BYTES
from mergekit_geo.checkpoints.naming import is_transposed
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.errors import AntipodalError, NonFiniteError
from mergekit_geo.geometry.by_row import ByRow
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.masked import Elementwise
from mergekit_geo.geometry.rule import Coefficients, Rule
from mergekit_geo.merging.blend import Blend, Role, is_bound
from mergekit_geo.merging.kernels import Chunk, Kernel
from mergekit_geo.merging.masked import MaskedTensor
from mergekit_geo.merging.memo import Memo
from mergekit_geo.merging.overflow import (
    LARGEST,
    lost,
    needs_width,
    reach,
    reach_of_sum,
    widened,
)
from mergekit_geo.merging.reader import CHUNK, Reader, at_least, chunks
from mergekit_geo.merging.rows import Part, RowTensor
from mergekit_geo.merging.weighed import Weighed
from mergekit_geo.merging.weighed_tensor import WeighedTensor
from mergekit_geo.merging.whole import TURN, Whole

if TYPE_CHECKING:
    from torch import Tensor

Made = TypeVar("Made")
T = TypeVar("T")

Checked = tuple[Gram | None, tuple[int, ...]]
"""A Gram matrix; none where an anchor is not finite, with how many elements of each are not."""

IN_WRITING = 0
"""In place of a number of elements: the Gram matrix was made with the output, in one pass."""

Make = Callable[[Sequence[Chunk], Chunk], Made]
"""Makes a chunk of the output from the anchors'."""


class Sink(Protocol):
    """Where merged elements go."""

    def write(self, name: str, position: int, data: Bytes) -> None:
        """Store `data` from byte `position` of the tensor on."""


@dataclass(frozen=True)
class TensorRecord:
    """What was done to one tensor.

    Attributes:
        branch: `linear`, `slerp`, `karcher`, `copied`, with the reason where it is an exception.
        coefficients: One factor per anchor; empty for a copy.
        gram: Inner products of the anchors, None for a tensor that is not averaged.
        nonfinite: Per anchor, how many elements are NaN or infinite.
        kept: Per task vector, how many elements are kept; empty where none are masked.
        lost: How many elements are finite in every anchor and not in the output.
        error: Relative error of what was factorised or solved; None where nothing was.
    """

    branch: str
    coefficients: tuple[float, ...] = ()
    gram: Gram | None = None
    nonfinite: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()
    lost: int = 0
    error: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON value for the journal."""
        gram = self.gram and [self.gram.differences.tolist(), self.gram.count]
        return {
            "branch": self.branch,
            "coefficients": self.coefficients,
            "gram": gram,
            "nonfinite": self.nonfinite,
            "kept": self.kept,
            "lost": self.lost,
            "error": self.error,
        }

    def among(self, taken: tuple[int, ...], count: int) -> TensorRecord:
        """The record with a place for each of all anchors, of which it is about some.

        Args:
            taken: Positions of those.
            count: Number of all.

        Example:
            >>> TensorRecord("linear", (0.5, 0.5)).among((0, 2), 3).coefficients
            (0.5, 0.0, 0.5)
        """
        return replace(
            self,
            coefficients=spread(self.coefficients, taken, count, 0.0),
            nonfinite=spread(self.nonfinite, taken, count, 0),
            kept=(),
            gram=None,
        )

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> TensorRecord:
        """From what `to_json` gave."""
        gram = Gram(np.array(raw["gram"][0]), raw["gram"][1]) if raw["gram"] else None
        nonfinite, kept = (tuple(raw[key]) for key in ("nonfinite", "kept"))
        coefficients, lost = tuple(raw["coefficients"]), raw.get("lost", 0)
        return cls(raw["branch"], coefficients, gram, nonfinite, kept, lost, raw.get("error"))


def spread(values: Sequence[T], taken: Sequence[int], count: int, filler: T) -> tuple[T, ...]:
    """Values at their places among so many; none where there are none.

    >>> spread([0.5, 0.25], (2, 0), 3, 0.0)
    (0.25, 0.0, 0.5)
    """
    found = dict(zip(taken, values, strict=True)) if values else {}
    return tuple(found.get(i, filler) for i in range(count)) if values else ()


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
        self.blend, self.sink, self.kernel, self.advance = blend, sink, kernel, advance
        self._memo = memo or Memo()
        self.allow_nonfinite = allow_nonfinite
        self._read = Reader(blend, room).read
        self._out = np.empty(0, np.uint8)
        self._lost, self._largest = 0, 0.0
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
        self._lost, self._largest = 0, 0.0
        record = self._merge(name)
        if self._lost and not self.allow_nonfinite:
            self._refuse_lost(name)
        record = replace(record, lost=self._lost) if self._lost else record
        taken = self.blend.takers.get(name)
        return record if taken is None else record.among(taken, len(self.blend.anchors))

    def _merge(self, name: str) -> TensorRecord:
        if self.blend.role(name) is Role.DONATED:
            return self._donate(name)
        rule = self.blend.rule_for(name)
        for kind, merge in self._ways:
            if isinstance(rule, kind):
                return merge(name, rule)
        if not rule.needs_gram:
            return self._combine(name, rule.coefficients(None))
        gram, counts = self._known(name, CHUNK) or self._found(name, CHUNK, self._gram(name))
        coefficients = self._coefficients(name, rule, gram)
        self._write(name, coefficients.values, gram)
        return TensorRecord(coefficients.branch, coefficients.values, gram, counts)

    def _combine(self, name: str, coefficients: Coefficients) -> TensorRecord:
        """Coefficients that are known before the tensor is read: once is enough."""
        if known := self._known(name, CHUNK) or self._known(name, IN_WRITING):
            gram, counts = known
            self._write(name, coefficients.values, gram)
        else:
            made = self._write_and_gram(name, coefficients.values)
            gram, counts = self._found(name, IN_WRITING, made)
        return TensorRecord(coefficients.branch, coefficients.values, gram, counts)

    def _mask(self, name: str, rule: Elementwise) -> TensorRecord:
        """Element by element; as a weighted mean where an anchor is not finite."""
        shape = self.blend.first(name).shape
        memo = self._memo.of(self.blend, name)
        task = MaskedTensor(name, shape, rule, partial(self._read, name), CHUNK, memo)
        known = self._known(name, task.step)
        before = task.before(once=not known)
        if known:
            gram, counts = known
        else:
            seen = (self._seen(name, anchors) for anchors in next(before))
            gram, counts = self._found(name, task.step, self._sum(name, seen))
        if counts:
            self._write(name, rule.convex, gram)
            return TensorRecord("linear: not finite", rule.convex, gram, counts)
        for anchors in chain.from_iterable(before):
            self.advance(anchors[0].count)
        most = inf if gram is None else reach_of_sum(gram, task.sum)
        for start, anchors, masks in task.masks():
            self._put(name, start, anchors, partial(task.add, masks), lambda _: most)
        return TensorRecord(rule.name, rule.weights, gram, counts, tuple(task.kept))

    def _by_row(self, name: str, rule: ByRow) -> TensorRecord:
        """Row by row; a row in which an anchor is not finite as a weighted mean."""
        shape, dtype = self.blend.first(name).shape, self.blend.output_info(name).dtype
        task = RowTensor(shape, dtype, rule, self.kernel, partial(self._read, name), CHUNK)
        for anchors in task.before():
            self.advance(anchors[0].count)
        for part in task.parts():
            self._put_rows(name, task, part)
        gram, counts = self._checked(name, task.gram)
        return TensorRecord(rule.branch, tuple(map(float, task.mean)), gram, counts)

    def _weigh(self, name: str, rule: Weighed) -> TensorRecord:
        """Each element by statistics; where an anchor is not finite, neither is the output."""
        task = WeighedTensor(name, self.blend.first(name).shape, rule)
        known = self._known(name, CHUNK) or self._known(name, IN_WRITING)
        made = self._sum(name, self._put_weighed(name, task, known and known[0]))
        gram, counts = known or self._found(name, IN_WRITING, made)
        return TensorRecord(rule.name, task.factors, gram, counts)

    def _put_weighed(self, name: str, task: WeighedTensor, known: Gram | None) -> Iterator[Gram]:
        dtype, bounds = self.blend.output_info(name).dtype, task.rule.bounds
        for start, anchors in self._read(name):
            gram = known or self.kernel.gram(anchors, dtype)
            statistics, most = task.read(start, start + anchors[0].count), reach(gram, bounds)
            self._put(name, start, anchors, partial(task.combine, statistics), partial(_same, most))
            task.count(anchors[0].count)
            yield gram

    def _put_rows(self, name: str, task: RowTensor, part: Part) -> None:
        most = reach(part.gram, part.largest)
        make = partial(task.combine, part.factors)
        self._put(name, part.start, part.anchors, make, lambda _: most)

    def _whole(self, name: str, rule: Whole) -> TensorRecord:
        """All of a matrix at once; as a weighted mean where an anchor is not finite."""
        from mergekit_geo.merging import whole_tensor  # loads torch

        with TURN:
            held = whole_tensor.Gathered(self.blend.infos(name))
            filled = held.filled(self._read(name, CHUNK))
            if known := self._known(name, CHUNK):
                for anchors in filled:
                    self.advance(anchors[0].count)
            seen = (self._seen(name, anchors) for anchors in filled)
            gram, counts = known or self._found(name, CHUNK, self._sum(name, seen))
            if counts:
                self._write(name, rule.convex, gram)
                return TensorRecord("linear: not finite", rule.convex, gram, counts)
            device, config = self.kernel.device, self.blend.donor.config
            turned = rule.outputs_first and is_transposed(name, config)
            tensors = held.tensors(device, turned=turned)
            made = rule.make(name, tensors, device, partial(self.advance, 0))
            self._put_whole(name, made.values.T if turned else made.values)
        return TensorRecord(made.branch, rule.weights, gram, error=made.error)

    def _put_whole(self, name: str, values: Tensor) -> None:
        """Round a merged tensor and hand it on."""
        from mergekit_geo.merging import whole_tensor

        dtype = self.blend.output_info(name).dtype
        most = whole_tensor.largest(values)
        for start, out in whole_tensor.rounded(values, dtype):
            if not most <= LARGEST[dtype]:
                self._lost, self._largest = self._lost + out.nonfinite, most
            self.sink.write(name, start, out.data)
            self.advance(out.count)

    def _seen(self, name: str, anchors: Sequence[Chunk]) -> Gram:
        self.advance(anchors[0].count)
        return self.kernel.gram(anchors, self.blend.output_info(name).dtype)

    def _coefficients(self, name: str, rule: Rule, gram: Gram | None) -> Coefficients:
        if gram is None:
            return Coefficients(rule.convex, "linear: not finite")
        try:
            return rule.coefficients(gram)
        except AntipodalError as error:
            error.where = f"tensor {name}"
            raise

    def _donate(self, name: str) -> TensorRecord:
        info, donor = self.blend.first(name), self.blend.anchors_of(name)[0]
        size = ITEM_BYTES[info.dtype]
        for start, stop in chunks(info.count):
            data = self._room((stop - start) * size)
            donor.read(name, start, stop, data)
            self.sink.write(name, start * size, data)
            self.advance(stop - start)
        return TensorRecord("copied")

    def _gram(self, name: str) -> Gram:
        return self._sum(
            name, (self._seen(name, anchors) for _, anchors in self._read(name, CHUNK))
        )

    def _write(self, name: str, coefficients: Sequence[float], gram: Gram | None) -> None:
        most = inf if gram is None else reach(gram, coefficients)
        make = partial(_swapped, self.kernel.combine, coefficients)
        for start, anchors in self._read(name):
            self._put(name, start, anchors, make, lambda _: most)

    def _write_and_gram(self, name: str, coefficients: Sequence[float]) -> Gram:
        return self._sum(name, self._write_and_grams(name, coefficients))

    def _write_and_grams(self, name: str, coefficients: Sequence[float]) -> Iterator[Gram]:
        make = partial(_swapped, self.kernel.combine_and_gram, coefficients)
        for start, anchors in self._read(name):
            yield self._put(name, start, anchors, make, lambda gram: reach(gram, coefficients))

    def _sum(self, name: str, parts: Iterable[Gram]) -> Gram:
        size = len(self.blend.anchors_of(name))
        with np.errstate(over="ignore", invalid="ignore"):  # who checks the sum finds infinities
            return sum(parts, start=Gram(np.zeros((size, size)), 0))

    def _room(self, nbytes: int) -> Bytes:
        self._out = at_least(self._out, nbytes)
        return self._out[:nbytes]

    def _put(
        self,
        name: str,
        start: int,
        anchors: Sequence[Chunk],
        make: Make[Made],
        most: Callable[[Made], float],
    ) -> Made:
        """Make a chunk and hand it on; what was found in making it.

        `most` tells from that what no element exceeds.
        """
        dtype = self.blend.output_info(name).dtype
        out = Chunk(self._room(anchors[0].count * ITEM_BYTES[dtype]), dtype)
        made = make(anchors, out)
        if not most(made) <= LARGEST[dtype]:
            self._look(anchors, make, out)
        self.sink.write(name, start * ITEM_BYTES[dtype], out.data)
        self.advance(out.count)
        return made

    def _look(self, anchors: Sequence[Chunk], make: Make[Any], out: Chunk) -> None:
        """Count what is finite in every anchor and not in `out`, made in float64 if need be."""
        if needs_width(anchors, out):
            anchors = [widened(anchors[0]), *anchors[1:]]
            make(anchors, out)
        if count := int(np.count_nonzero(gone := lost(anchors, out))):
            wide = Chunk(np.empty(out.count * 8, np.uint8), "F64")
            make(anchors, wide)
            sizes = np.nan_to_num(np.abs(wide.data.view(np.float64)[gone]), nan=inf, posinf=inf)
            self._lost, self._largest = self._lost + count, max(self._largest, float(sizes.max()))

    def _refuse_lost(self, name: str) -> None:
        dtype, largest = self.blend.output_info(name).dtype, self._largest
        found = "1 element is" if self._lost == 1 else f"{self._lost} elements are"
        why = f"values up to {largest:.3g} do not fit {dtype} ({LARGEST[dtype]:.3g})"
        raise NonFiniteError(
            f"{found} finite in every model and not in the output: "
            f"{why if largest < inf else 'their sum overflows float64'}",
            where=f"tensor {name}",
            remedy="choose smaller weights or a wider --dtype, or --allow-nonfinite to go on",
        )

    def _known(self, name: str, step: int) -> Checked | None:
        """What a merge of the same anchors found, reading so many elements at a time."""
        memo, dtype = self._memo.of(self.blend, name), self.blend.output_info(name).dtype
        known: Checked | None = memo.get("gram", dtype, step) if memo else None
        if known and known[1]:
            self._refuse_nonfinite(name, known[1])
        return known

    def _found(self, name: str, step: int, gram: Gram) -> Checked:
        """Check what is found now, and keep it for merges to come."""
        memo, dtype = self._memo.of(self.blend, name), self.blend.output_info(name).dtype
        checked = self._checked(name, gram)
        if memo:
            memo.keep(checked, "gram", dtype, step)
        return checked

    def _checked(self, name: str, gram: Gram) -> Checked:
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


def _same(value: float, _: object) -> float:
    return value


def _swapped(
    combine: Callable[[Sequence[Chunk], Sequence[float], Chunk], Made],
    coefficients: Sequence[float],
    anchors: Sequence[Chunk],
    out: Chunk,
) -> Made:
    return combine(anchors, coefficients, out)
