"""The kernels as compiled code (`kernel.c`), called without the interpreter's lock."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from mergekit_geo.geometry.gram import Gram
from mergekit_geo.merging.kernels import Chunk, Kernel, core_count

LIBRARY = Path(__file__).with_name("_kernel.so")
"""The library, compiled from `kernel.c` at installation; absent without a compiler."""

CODES = {"BF16": 0, "F16": 1, "F32": 2, "F64": 3}


class NativeKernel:
    """The kernels on the CPU: one pass over memory, the same bits on every machine."""

    def __init__(self) -> None:
        self.workers = core_count()
        self._merge = _library().merge

    @staticmethod
    def is_built() -> bool:
        """Whether the library is there and can be loaded."""
        try:
            return bool(_library())
        except OSError:
            return False

    def gram(self, anchors: Sequence[Chunk], dtype: str = "F64") -> Gram:
        """Inner products of k chunks."""
        gram = np.zeros((len(anchors), len(anchors)))
        self._run(anchors, None, None, gram, dtype)
        return _symmetric(gram, anchors[0].count)

    def combine(self, anchors: Sequence[Chunk], coefficients: Sequence[float], out: Chunk) -> None:
        """Overwrite `out` with the sum of k chunks, each times its coefficient."""
        self._run(anchors, coefficients, out, None, out.dtype)

    def combine_and_gram(
        self, anchors: Sequence[Chunk], coefficients: Sequence[float], out: Chunk
    ) -> Gram:
        """Combine chunks into `out`, and return their inner products, in one pass."""
        gram = np.zeros((len(anchors), len(anchors)))
        self._run(anchors, coefficients, out, gram, out.dtype)
        return _symmetric(gram, anchors[0].count)

    def _run(
        self,
        anchors: Sequence[Chunk],
        coefficients: Sequence[float] | None,
        out: Chunk | None,
        gram: np.ndarray[tuple[int, int], np.dtype[np.float64]] | None,
        dtype: str,
    ) -> None:
        k = len(anchors)
        failed = self._merge(
            k,
            anchors[0].count,
            (ctypes.c_void_p * k)(*(anchor.data.ctypes.data for anchor in anchors)),
            (ctypes.c_int * k)(*(CODES[anchor.dtype] for anchor in anchors)),
            None if coefficients is None else (ctypes.c_double * k)(*coefficients),
            None if out is None else out.data.ctypes.data,
            CODES[dtype],
            None if gram is None else gram.ctypes.data,
        )
        if failed:
            raise MemoryError(f"no memory for blocks of {k} models")


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(LIBRARY))
    pointer, size, code = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    library.merge.argtypes = [size, size, pointer, pointer, pointer, pointer, code, pointer]
    return library


def _symmetric(lower: np.ndarray[tuple[int, int], np.dtype[np.float64]], count: int) -> Gram:
    whole = lower + lower.T  # nothing is above the diagonal yet
    np.fill_diagonal(whole, np.diag(lower))
    return Gram(whole, count)


def kernel_for(device: str) -> Kernel:
    """The fastest kernel here: compiled code on the CPU where it was built, or else torch.

    Raises:
        ArgumentError: torch has no such device.
    """
    if device == "cpu" and NativeKernel.is_built():
        return NativeKernel()
    from mergekit_geo.merging.torch_kernel import TorchKernel  # loads torch

    return TorchKernel(device)
