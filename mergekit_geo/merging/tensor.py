"""Merging one tensor, a stretch at a time, in buffers that do not grow with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mergekit_geo.checkpoints.staging import TORCH_DTYPES
from mergekit_geo.errors import AntipodalError, NonFiniteError
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.rule import Coefficients, Rule
from mergekit_geo.merging.blend import Blend, Role
from mergekit_geo.merging.kernels import accumulation_dtype, combine, count_nonfinite, gram_

NEARLY_OPPOSITE = 3.1
"""Angle in radians beyond which float32 products cannot tell opposite tensors (error 1e-3)."""

ROW_BYTES = 1 << 20
"""Bytes of one anchor's stretch in the accumulation dtype. Two workers' rows of three anchors then
stay in a shared cache of 8 MiB; shorter stretches spend their time on the interpreter's lock."""


class Sink(Protocol):
    """Where merged elements go."""

    def write(self, name: str, start: int, values: Tensor) -> None:
        """Store `values` as the elements from `start` on of the flattened tensor."""


@dataclass(frozen=True)
class TensorRecord:
    """What was done to one tensor.

    Attributes:
        branch: `linear`, `slerp`, `karcher`, `copied`, with the reason where it is an exception.
        coefficients: One factor per anchor; empty for a copy.
        gram: Inner products of the anchors, None for a tensor that is not averaged.
        nonfinite: Per anchor, how many elements are NaN or infinite.
    """

    branch: str
    coefficients: tuple[float, ...] = ()
    gram: Gram | None = None
    nonfinite: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As the journal keeps it."""
        gram = self.gram and [self.gram.differences.tolist(), self.gram.count]
        return {
            "branch": self.branch,
            "coefficients": self.coefficients,
            "gram": gram,
            "nonfinite": self.nonfinite,
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> TensorRecord:
        """From what `to_json` gave."""
        gram = Gram(np.array(raw["gram"][0]), raw["gram"][1]) if raw["gram"] else None
        return cls(raw["branch"], tuple(raw["coefficients"]), gram, tuple(raw["nonfinite"]))


class TensorMerger:
    """Merges the tensors of a blend one after another, in buffers of its own.

    Args:
        blend: What is merged.
        sink: Where it goes.
        advance: Called with the number of elements done, after each stretch.
        device: Where the arithmetic happens.
        allow_nonfinite: Go on over NaN and infinity.
    """

    def __init__(
        self,
        blend: Blend,
        sink: Sink,
        advance: Callable[[int], None],
        device: str = "cpu",
        *,
        allow_nonfinite: bool = False,
    ) -> None:
        self.blend, self.sink, self.advance = blend, sink, advance
        self.device, self.allow_nonfinite = device, allow_nonfinite
        self._rows: dict[torch.dtype, Tensor] = {}
        self._results: dict[torch.dtype, Tensor] = {}

    def merge(self, name: str) -> TensorRecord:
        """Merge one tensor into the sink.

        Raises:
            NonFiniteError: An anchor holds NaN or infinity, or the output dtype overflows.
            AntipodalError: The rule has no answer for this tensor.
        """
        if self.blend.role(name) is Role.DONATED:
            return self._donate(name)
        rule = self.blend.rule_for(name)
        if rule.needs_gram:
            gram, counts = self._checked(name, self._gram(name))
            if gram is not None and gram.angles.max() > NEARLY_OPPOSITE:
                gram = self._gram(name, torch.float64)
            coefficients = self._coefficients(name, rule, gram)
            self._write(name, coefficients.values)
        else:
            coefficients = rule.coefficients(None)
            gram, counts = self._checked(name, self._write(name, coefficients.values, measure=True))
        return TensorRecord(coefficients.branch, coefficients.values, gram, counts)

    def _coefficients(self, name: str, rule: Rule, gram: Gram | None) -> Coefficients:
        if gram is None:
            return Coefficients(rule.convex, "linear: not finite")
        try:
            return rule.coefficients(gram)
        except AntipodalError as error:
            error.where = f"tensor {name}"
            raise

    def _donate(self, name: str) -> TensorRecord:
        info = self.blend.donor.tensors[name]
        stretch = torch.empty(min(ROW_BYTES, info.count), dtype=TORCH_DTYPES[info.dtype])
        for start in range(0, info.count, ROW_BYTES):
            stop = min(start + ROW_BYTES, info.count)
            self.blend.donor.read(name, start, stop, stretch)
            self.sink.write(name, start, stretch[: stop - start])
            self.advance(stop - start)
        return TensorRecord("copied")

    def _gram(self, name: str, dtype: torch.dtype | None = None) -> Gram:
        return self._sum(self._gram_stretches(name, dtype))

    def _gram_stretches(self, name: str, dtype: torch.dtype | None) -> Iterator[Gram]:
        for _, rows in self._stretches(name, dtype):
            yield gram_(rows)
            self.advance(rows.shape[1])

    def _sum(self, parts: Iterable[Gram]) -> Gram:
        size = len(self.blend.anchors)
        return sum(parts, start=Gram(np.zeros((size, size)), 0))

    def _write(self, name: str, coefficients: Sequence[float], *, measure: bool = False) -> Gram:
        """Combine, round and store every stretch; with `measure`, take the Gram on the way."""
        return self._sum(self._write_stretches(name, coefficients, measure))

    def _write_stretches(
        self, name: str, coefficients: Sequence[float], measure: bool
    ) -> Iterator[Gram]:
        info = self.blend.output_info(name)
        for start, rows in self._stretches(name):
            size = rows.shape[1]
            out = self._buffer(rows.dtype)[-1, :size]
            combine(rows, coefficients, out)
            self.sink.write(name, start, self._rounded(name, out, info.dtype))
            if measure:
                yield gram_(rows)
            self.advance(size)

    def _rounded(self, name: str, values: Tensor, dtype: str) -> Tensor:
        target = TORCH_DTYPES[dtype]
        if target not in self._results:
            self._results[target] = torch.empty(ROW_BYTES // 4, dtype=target)
        result = self._results[target][: values.numel()]
        result.copy_(values)
        if self._can_overflow(name, dtype) and not torch.isfinite(result).all():
            self._refuse_overflow(name, values, target)
        return result

    def _can_overflow(self, name: str, dtype: str) -> bool:
        """Whether sums of finite elements may not fit the output dtype."""
        if self.allow_nonfinite:
            return False
        wide = any(info.dtype == "F64" for info in self.blend.infos(name))
        return dtype == "F16" or (wide and dtype != "F64")

    def _refuse_overflow(self, name: str, values: Tensor, target: torch.dtype) -> None:
        if torch.isfinite(values).all():
            raise NonFiniteError(
                f"values up to {values.abs().max().item():.3g} do not fit {target} "
                f"({torch.finfo(target).max:.3g})",
                where=f"tensor {name}",
                remedy="choose a wider --dtype, or --allow-nonfinite to keep the infinities",
            )

    def _stretches(
        self, name: str, dtype: torch.dtype | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Start and (k, n) rows of every stretch of a tensor; the rows are reused."""
        infos = self.blend.infos(name)
        buffer = self._buffer(dtype or accumulation_dtype(infos))
        count, length = infos[0].count, buffer.shape[1]
        for start in range(0, count, length):
            stop = min(start + length, count)
            rows = buffer[:-1, : stop - start]
            for anchor, row in zip(self.blend.anchors, rows.unbind(0), strict=True):
                anchor.read(name, start, stop, row)
            yield start, rows

    def _buffer(self, dtype: torch.dtype) -> Tensor:
        """One row an anchor, and a last one for their combination: (k + 1, n)."""
        if dtype not in self._rows:
            shape = (len(self.blend.anchors) + 1, ROW_BYTES // dtype.itemsize)
            self._rows[dtype] = torch.empty(shape, dtype=dtype, device=self.device)
        return self._rows[dtype]

    def _checked(self, name: str, gram: Gram) -> tuple[Gram | None, tuple[int, ...]]:
        """The Gram matrix, or None with the counts of what is not finite.

        Squares can overflow float32 where the values are fine: then float64 decides.
        """
        if gram.is_finite:
            return gram, ()
        counts = sum(count_nonfinite(rows) for _, rows in self._stretches(name))
        assert isinstance(counts, Tensor)
        if not counts.any():
            wide = self._gram(name, torch.float64)
            return (wide if wide.is_finite else None), ()
        if not self.allow_nonfinite:
            self._refuse_nonfinite(name, counts.tolist())
        return None, tuple(counts.tolist())

    def _refuse_nonfinite(self, name: str, counts: list[int]) -> None:
        found = [
            f"{anchor.name} ({count})"
            for anchor, count in zip(self.blend.anchors, counts, strict=True)
            if count
        ]
        raise NonFiniteError(
            f"NaN or infinite elements in {', '.join(found)}",
            where=f"tensor {name}",
            remedy="leave that model out, or --allow-nonfinite to merge all the same",
        )
