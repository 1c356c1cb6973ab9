"""The random state of the script that calls us."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def randomness_kept() -> Iterator[None]:
    """Restore the generators of Python, NumPy and torch afterwards, whatever seeds are set.

    Example:
        >>> before = torch.get_rng_state()
        >>> with randomness_kept():
        ...     _ = torch.manual_seed(0)
        >>> torch.get_rng_state().equal(before)
        True
    """
    before = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
