"""How long work tells of itself without printing: the caller decides what is shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

DOWNLOAD_BARS = threading.Event()
"""Set if a terminal shows the progress bars of downloads."""


class Progress(Protocol):
    """Receives the progress of work, phase by phase.

    Example:
        >>> import torch
        >>> from mergekit_geo import soup
        >>> class Printed:
        ...     def phase(self, title, total):
        ...         print(title, total)
        ...
        ...     def advance(self, count): ...
        ...
        ...     def say(self, text):
        ...         print(text)
        >>> states = [{"w": torch.zeros(2)}, {"w": torch.ones(2)}]
        >>> found = soup(states, data=None, progress=Printed())
        2 models, 2 parameters each
        merging 2
    """

    def phase(self, title: str, total: int) -> None:
        """A new phase of `total` steps begins."""

    def advance(self, count: int) -> None:
        """Count more finished steps of the phase."""

    def say(self, text: str) -> None:
        """Show a message, such as the cost of the next phase."""


class TimeLeft:
    """Seconds that a command will still take, by what its parts last expected.

    The part that spoke last is at work: what has passed since then is taken off its share.

    Args:
        now: Tells the time in seconds.

    Example:
        >>> moments = iter([0.0, 0.0, 4.0])
        >>> left = TimeLeft(lambda: next(moments))
        >>> left.expect("losses", 10.0)
        >>> left.expect("sharpness", 30.0)
        >>> left.seconds
        36.0
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._parts: dict[str, tuple[float, float]] = {}
        self._at_work = ""

    @property
    def is_known(self) -> bool:
        """Whether any part has said how long it takes."""
        return bool(self._parts)

    @property
    def seconds(self) -> float:
        """Expected seconds from now on."""
        moment = self._now()
        return sum(
            max(seconds - (moment - since) * (part == self._at_work), 0.0)
            for part, (seconds, since) in self._parts.items()
        )

    def expect(self, part: str, seconds: float) -> None:
        """Note how long a part will take from now on; a later word corrects an earlier one."""
        self._parts[part], self._at_work = (seconds, self._now()), part


def expect(progress: Progress, part: str, seconds: float) -> None:
    """Tell a progress how many seconds a part of the command will take from now on.

    Nothing happens where a progress of the user's does not ask for it.
    """
    told = getattr(progress, "expect", None)
    if told is not None:
        told(part, seconds)


class Steps:
    """Tells how long steps of one kind will take, by those that were done.

    Args:
        part: What they are called.
    """

    def __init__(self, part: str) -> None:
        self.part, self._done = part, 0
        self._began: float | None = None

    def expect(self, progress: Progress, left: int) -> None:
        """Count a step, and tell what those that are left will take; the first is not typical."""
        if self._began is None:
            self._began = time.monotonic()
            return
        self._done += 1
        expect(progress, self.part, (time.monotonic() - self._began) / self._done * left)


class Silent:
    """Shows nothing."""

    def phase(self, title: str, total: int) -> None:
        """Do nothing."""

    def advance(self, count: int) -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""

    def expect(self, part: str, seconds: float) -> None:
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
        self._left = TimeLeft()

    def expect(self, part: str, seconds: float) -> None:
        """Note how long a part will take."""
        self._left.expect(part, seconds)

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
        left = f", about {self._left.seconds:.0f} s left" if self._left.is_known else ""
        return f"{self._title}{share} {time.monotonic() - self._began:.0f} s so far{left}"
