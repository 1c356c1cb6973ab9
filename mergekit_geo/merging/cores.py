"""How many threads are worth having."""

from __future__ import annotations

import os

MOST_WORKERS = 16
"""More than so many threads wait for memory rather than for cores."""


def core_count() -> int:
    """Cores that this process may use, at most `MOST_WORKERS`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, MOST_WORKERS)
