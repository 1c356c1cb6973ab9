"""Memory that a thread keeps between calls: fresh pages cost more than the sums made in them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

_kept = threading.local()


def scratch(purpose: str, count: int, dtype: type[np.generic]) -> NDArray[Any]:
    """Uninitialised elements of this thread's own, overwritten by the next call of a purpose.

    Args:
        purpose: Several that are used at a time have different ones.
        count: Number of elements.
        dtype: Of the elements.

    Example:
        >>> first = scratch("sum", 3, np.float32)
        >>> np.shares_memory(first, scratch("sum", 2, np.float64))
        False
        >>> np.shares_memory(scratch("sum", 2, np.float64), scratch("sum", 4, np.float32))
        True
    """
    nbytes = count * np.dtype(dtype).itemsize
    kept: NDArray[np.uint8] | None = getattr(_kept, purpose, None)
    if kept is None or len(kept) < nbytes:
        kept = np.empty(nbytes, np.uint8)
        setattr(_kept, purpose, kept)
    return kept[:nbytes].view(dtype)
