"""The kernels as compiled code (`kernel.c`), called without the interpreter's lock."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from mergekit_geo.geometry.gram import Gram, Matrix
from mergekit_geo.merging.kernels import Chunk, Kernel, core_count

LIBRARY = Path(__file__).with_name("_kernel.so")
"""The library, compiled from `kernel.c` at installation; absent without a compiler."""

CODES = {"BF16": 0, "F16": 1, "F32": 2, "F64": 3}


class NativeKernel:
    """The kernels on the CPU: one pass over memory, the same bits on every machine."""

    device = "cpu"

    def __init__(self) -> None:
        self.workers = core_count()

    @staticmethod
    def is_built() -> bool:
        """Whether the library is there, is of this version, and can be loaded."""
        try:
            return bool(_library())
        except (OSError, AttributeError):
            return False

    def gram(self, anchors: Sequence[Chunk], dtype: str = "F64") -> Gram:
        """Inner products of k chunks."""
        count = anchors[0].count
        return Gram(self.grams(anchors, count, dtype)[0], count)

    def combine(self, anchors: Sequence[Chunk], coefficients: Sequence[float], out: Chunk) -> None:
        """Overwrite `out` with the sum of k chunks, each times its coefficient."""
        self.combine_rows(anchors, np.array([coefficients], np.float64), out)

    def combine_and_gram(
        self, anchors: Sequence[Chunk], coefficients: Sequence[float], out: Chunk
    ) -> Gram:
        """Combine chunks into `out`, and return their inner products, in one pass."""
        grams = np.zeros((1, len(anchors), len(anchors)))
        self._run(anchors, np.array([coefficients], np.float64), out, grams, out.dtype)
        return Gram(_symmetric(grams)[0], anchors[0].count)

    def grams(self, anchors: Sequence[Chunk], width: int, dtype: str = "F64") -> Matrix:
        """Inner products of each row of `width` elements."""
        rows = anchors[0].count // width if width else 1
        grams = np.zeros((rows, len(anchors), len(anchors)))
        self._run(anchors, None, None, grams, dtype)
        return _symmetric(grams)

    def combine_rows(self, anchors: Sequence[Chunk], factors: Matrix, out: Chunk) -> None:
        """Overwrite `out` with the sums, each row with its own factors."""
        self._run(anchors, np.ascontiguousarray(factors), out, None, out.dtype)

    def _run(
        self,
        anchors: Sequence[Chunk],
        factors: Matrix | None,
        out: Chunk | None,
        grams: Matrix | None,
        dtype: str,
    ) -> None:
        k, rows = len(anchors), _rows(factors, grams)
        failed = _library().merge_rows(
            rows,
            k,
            anchors[0].count // rows,
            (ctypes.c_void_p * k)(*(anchor.data.ctypes.data for anchor in anchors)),
            (ctypes.c_int * k)(*(CODES[anchor.dtype] for anchor in anchors)),
            None if factors is None else factors.ctypes.data,
            None if out is None else out.data.ctypes.data,
            CODES[dtype],
            None if grams is None else grams.ctypes.data,
        )
        if failed:
            raise MemoryError(f"no memory for blocks of {k} models")


def _rows(factors: Matrix | None, grams: Matrix | None) -> int:
    """How many rows there are."""
    return next(len(found) for found in (factors, grams) if found is not None)


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(LIBRARY))
    pointer, size, code = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    pointers = [pointer, pointer, pointer, pointer]
    library.merge_rows.argtypes = [size, size, size, *pointers, code, pointer]
    return library


def _symmetric(lower: Matrix) -> Matrix:
    """Matrices above whose diagonals nothing is yet: (n, k, k)."""
    return np.asarray(lower + np.tril(lower, -1).transpose(0, 2, 1))


def kernel_for(device: str) -> Kernel:
    """The fastest kernel here: compiled code on the CPU where it was built, or else torch.

    Raises:
        ArgumentError: torch has no such device.
    """
    if device == "cpu" and NativeKernel.is_built():
        return NativeKernel()
    from mergekit_geo.merging.torch_kernel import TorchKernel  # loads torch

    return TorchKernel(device)
