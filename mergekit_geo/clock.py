"""The time that one command may spend on measuring.

Choosing, losses, barriers, sharpness and baselines share it; downloading, merging and fitting do
not count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

MINUTES = 10.0
"""Default budget in minutes."""


class Clock:
    """A budget that several parts of a command spend together.

    Args:
        minutes: The budget; 0 is no limit.

    Example:
        >>> Clock(0).left, Clock(10).left
        (inf, 600.0)
    """

    def __init__(self, minutes: float) -> None:
        self.limit = minutes * 60 if minutes else math.inf
        self._spent = 0.0
        self._since: float | None = None

    @property
    def left(self) -> float:
        """Seconds that are left; infinite without a limit."""
        running = 0.0 if self._since is None else time.monotonic() - self._since
        return max(self.limit - self._spent - running, 0.0)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Context whose time counts against the budget."""
        with self._set(time.monotonic() if self._since is None else self._since):
            yield

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Context whose time does not count, inside one whose time does."""
        with self._set(None):
            yield

    @contextmanager
    def share(self, parts: int) -> Iterator[None]:
        """Context that may spend only its share, as one of several equal parts still to come."""
        limit = self.limit
        self.limit = limit - self.left * (1 - 1 / parts) if math.isfinite(limit) else limit
        try:
            yield
        finally:
            self.limit = limit

    @contextmanager
    def _set(self, since: float | None) -> Iterator[None]:
        before = self._since
        self._stop(since)
        try:
            yield
        finally:
            self._stop(None if before is None else time.monotonic())

    def _stop(self, since: float | None) -> None:
        """Add up what has run, and go on from another moment."""
        if self._since is not None and self._since != since:
            self._spent += time.monotonic() - self._since
        self._since = since


_CURRENT: ContextVar[Clock | None] = ContextVar("clock", default=None)


@contextmanager
def one_clock(minutes: float) -> Iterator[Clock]:
    """The clock of a command: that of the command that it is part of, if there is one.

    Args:
        minutes: The budget; 0 is no limit.
    """
    found = _CURRENT.get() or Clock(minutes)
    token = _CURRENT.set(found)
    try:
        yield found
    finally:
        _CURRENT.reset(token)


def clock_of(minutes: float) -> Clock:
    """The clock of the command that runs, or a new one outside of any."""
    return _CURRENT.get() or Clock(minutes)
