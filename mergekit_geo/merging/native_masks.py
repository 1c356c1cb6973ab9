"""Masks and sums as compiled code (`masks.c`), called without the interpreter's lock."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_double, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergekit_geo.geometry.masked import How, Joined, Near, Sizes, Sum
from mergekit_geo.geometry.rule import ModelWeights
from mergekit_geo.merging.kernels import Chunk
from mergekit_geo.merging.mask_kernel import CERTAIN, Bounds, Digit, Keys, Mask, MaskKernel
from mergekit_geo.merging.native import CODES, LIBRARY, NativeKernel


class Stored(ctypes.Structure):
    """A chunk as compiled code takes it."""

    _fields_ = (("data", c_void_p), ("dtype", c_int))

    @classmethod
    def of(cls, chunk: Chunk) -> Stored:
        """View the chunk's memory, which the chunk has to outlive."""
        return cls(chunk.data.ctypes.data, CODES[chunk.dtype])


class _Sum(ctypes.Structure):
    _fields_ = (
        ("factors", POINTER(c_double)),
        ("votes", POINTER(c_double)),
        ("weights", POINTER(c_double)),
        ("scale", c_double),
    )


class NativeMasks:
    """Mask operations as compiled code on the CPU, with the same bits on every machine."""

    def sizes(self, base: Chunk, model: Chunk, keys: Keys) -> None:
        """Keys of the elements of model - base."""
        _library().sizes(base.count, Stored.of(base), Stored.of(model), keys.ctypes.data)

    def spreads(self, models: Sequence[Chunk], keys: Keys) -> None:
        """Keys of the elements' variances over the models."""
        _library().spreads(len(models), models[0].count, _stored(models), keys.ctypes.data)

    def tally(self, keys: Keys, digit: Digit, prefix: int, counts: NDArray[np.int64]) -> None:
        """Count the values of a digit, of the keys whose higher digits are `prefix`."""
        where, to = keys.ctypes.data, counts.ctypes.data
        _library().tally(len(keys), where, digit.shift, digit.bits, prefix, to)

    def between(self, keys: Keys, bounds: Bounds, met: NDArray[np.int64], mask: Mask) -> None:
        """Mask by bounds."""
        kept = (c_int64 * 4)(*bounds.low_ties, *bounds.high_ties)
        ends = (c_uint32 * 2)(bounds.low, bounds.high)
        where, to = keys.ctypes.data, mask.ctypes.data
        _library().between(len(keys), where, ends, kept, met.ctypes.data, to)

    def draw(self, seed: int, start: int, chance: float | Keys, mask: Mask) -> None:
        """Mask at random."""
        each = None if isinstance(chance, float) else chance.ctypes.data
        same = int(chance * CERTAIN) if isinstance(chance, float) else 0
        _library().draw(len(mask), seed, start, same, each, mask.ctypes.data)

    def chances(self, keys: Keys, columns: int, low: float, high: float, out: Keys) -> None:
        """Chances by rank in each row of keys."""
        where, to = keys.ctypes.data, out.ctypes.data
        if _library().chances(len(keys) // columns, columns, where, low, high, to):
            raise MemoryError(f"no memory to sort {columns} elements")

    def measure(self, base: Chunk, model: Chunk, mask: Mask | None) -> Sizes:
        """Sums over model - base."""
        sums, count = (c_double * 3)(), base.count
        _library().measure(count, Stored.of(base), Stored.of(model), _address(mask), sums)
        return Sizes(sums[0], sums[1], sums[2], count)

    def add(
        self, anchors: Sequence[Chunk], masks: Sequence[Mask | None], how: How, out: Chunk
    ) -> None:
        """Overwrite `out` with the base and the sum of what is kept."""
        kept = (c_void_p * len(masks))(*map(_address, masks))
        to, dtype = out.data.ctypes.data, CODES[out.dtype]
        match how:
            case Sum():
                self._add(anchors, kept, how, out)
            case Near(reach):
                base, model = map(Stored.of, anchors)
                _library().add_near(out.count, base, model, reach, to, dtype)
            case Joined(factors):
                stored, each = _stored(anchors), _doubles(factors)
                _library().add_joined(len(masks), out.count, stored, kept, each, to, dtype)

    def _add(self, anchors: Sequence[Chunk], kept: Any, how: Sum, out: Chunk) -> None:
        k = len(kept)
        sums = _Sum(_doubles(how.factors), _doubles(how.votes), _doubles(how.weights), how.scale)
        to, dtype = out.data.ctypes.data, CODES[out.dtype]
        if _library().add_masked(k, out.count, _stored(anchors), kept, sums, to, dtype):
            raise MemoryError(f"no memory for blocks of {k} models")


def _stored(chunks: Sequence[Chunk]) -> Any:
    return (Stored * len(chunks))(*map(Stored.of, chunks))


def _address(mask: Mask | None) -> int | None:
    return None if mask is None else mask.ctypes.data


def _doubles(numbers: ModelWeights | None) -> Any:
    return None if numbers is None else (c_double * len(numbers))(*numbers)


@cache
def _library() -> ctypes.CDLL:
    library, pointer, size = ctypes.CDLL(str(LIBRARY)), c_void_p, c_size_t
    library.sizes.argtypes = [size, Stored, Stored, pointer]
    library.spreads.argtypes = [size, size, pointer, pointer]
    library.tally.argtypes = [size, pointer, c_int, c_int, c_uint32, pointer]
    library.between.argtypes = [size, pointer, pointer, pointer, pointer, pointer]
    library.draw.argtypes = [size, c_uint64, c_uint64, c_uint32, pointer, pointer]
    library.chances.argtypes = [size, size, pointer, c_double, c_double, pointer]
    library.measure.argtypes = [size, Stored, Stored, pointer, pointer]
    library.add_masked.argtypes = [size, size, pointer, pointer, _Sum, pointer, c_int]
    library.add_near.argtypes = [size, Stored, Stored, c_double, pointer, c_int]
    library.add_joined.argtypes = [size, size, pointer, pointer, pointer, pointer, c_int]
    return library


def mask_kernel() -> MaskKernel:
    """Compiled code where it was built, or else numpy: always on the CPU."""
    if NativeKernel.is_built():
        return NativeMasks()
    from mergekit_geo.merging.plain_masks import PlainMasks  # loads torch

    return PlainMasks()
