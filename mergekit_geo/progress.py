"""How long work tells of itself without printing: the caller decides what is shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Receives the progress of work, phase by phase."""

    def phase(self, title: str, total: int) -> None:
        """A new phase of `total` steps begins."""

    def advance(self, count: int) -> None:
        """Count more finished steps of the phase."""

    def say(self, text: str) -> None:
        """Show a message, such as the cost of the next phase."""


class Silent:
    """Shows nothing."""

    def phase(self, title: str, total: int) -> None:
        """Do nothing."""

    def advance(self, count: int) -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""


class Heartbeat(Silent):
    """Progress as lines for a log: messages, and the phase's state when nothing came for a while.

    Args:
        tell: Takes a line.
        every: Seconds without a line at most, from the first phase until `close`.
    """

    def __init__(self, tell: Callable[[str], None], every: float = 30.0) -> None:
        self._tell, self._every = tell, every
        self._title, self._done, self._total = "", 0, 0
        self._began = self._last = time.monotonic()
        self._over: threading.Event | None = None

    def phase(self, title: str, total: int) -> None:
        """Note the phase, and start the timer."""
        self._title, self._done, self._total = title, 0, total
        if self._over is None:
            self._over, self._began = threading.Event(), time.monotonic()
            threading.Thread(target=self._beat, args=(self._over,), daemon=True).start()

    def advance(self, count: int) -> None:
        """Note the finished steps."""
        self._done += count

    def say(self, text: str) -> None:
        """Pass a message on."""
        self._last = time.monotonic()
        self._tell(text)

    def close(self) -> None:
        """Stop the timer."""
        if self._over is not None:
            self._over.set()
            self._over = None

    def _beat(self, over: threading.Event) -> None:
        self._last = time.monotonic()
        while not over.wait(max(0.0, self._last + self._every - time.monotonic())):
            if time.monotonic() - self._last >= self._every:
                self.say(self._state())

    def _state(self) -> str:
        """One line, such as `loss of b: 40 %, 95 s so far`."""
        share = f": {min(self._done / self._total, 1):.0%}," if self._total else ","
        return f"{self._title}{share} {time.monotonic() - self._began:.0f} s so far"
