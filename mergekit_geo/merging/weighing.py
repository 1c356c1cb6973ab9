"""Sums of models whose every element is weighed by statistics, and where they are made.

Compiled code (`weighed.c`) where it was built, or else numpy: always on the CPU, as for masks.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_double, c_int, c_size_t, c_void_p
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mergekit_geo.geometry.weighing import Weighing
from mergekit_geo.merging.kernels import Chunk
from mergekit_geo.merging.native import CODES, LIBRARY
from mergekit_geo.merging.native_masks import Stored

Doubles = NDArray[np.float64]


class WeighingKernel(Protocol):
    """Something that sums weighed models; several threads call it at a time."""

    def weigh(
        self, models: Sequence[Chunk], statistics: Sequence[Chunk], how: Weighing, out: Chunk
    ) -> Doubles:
        """Overwrite `out`, summed in float64 and rounded once.

        Args:
            models: k chunks.
            statistics: Of each, numbers >= 0.
            how: How much each counts.
            out: Of the same number of elements.

        Returns:
            (k,) the factors of each model over all elements, summed; 0 for the first.
        """


class _Weighing(ctypes.Structure):
    _fields_ = (("weights", POINTER(c_double)), ("floor", c_double), ("has_prior", c_int))


class NativeWeighing:
    """Compiled code, called without the interpreter's lock."""

    def weigh(
        self, models: Sequence[Chunk], statistics: Sequence[Chunk], how: Weighing, out: Chunk
    ) -> Doubles:
        """Overwrite `out` with the weighed sum; returns the factors, summed."""
        k, shares = len(models), np.zeros(len(models))
        weights = (c_double * k)(*how.weights)
        stored = [(Stored * k)(*map(Stored.of, chunks)) for chunks in (models, statistics)]
        known = _Weighing(weights, how.floor, how.has_prior)
        to, dtype = out.data.ctypes.data, CODES[out.dtype]
        if _library().add_weighed(k, out.count, *stored, known, to, dtype, shares.ctypes.data):
            raise MemoryError(f"no memory for blocks of {k} models")
        return shares


@cache
def _library() -> ctypes.CDLL:
    library, pointer = ctypes.CDLL(str(LIBRARY)), c_void_p
    sizes = [c_size_t, c_size_t]
    library.add_weighed.argtypes = [*sizes, pointer, pointer, _Weighing, pointer, c_int, pointer]
    return library


@cache
def weighing_kernel() -> WeighingKernel:
    """Compiled code where it was built with it, or else numpy."""
    try:
        _library()
    except (OSError, AttributeError):
        from mergekit_geo.merging.plain_weighing import PlainWeighing  # loads torch

        return PlainWeighing()
    return NativeWeighing()
