"""Progress on stderr: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from mergekit_geo.printable import in_words, printable
from mergekit_geo.progress import Heartbeat, Silent, TimeLeft
from mergekit_geo.views.console import InertConsole

TINY = 1e-9
"""Seconds, so that nothing is divided by none."""


def console_progress(*, quiet: bool) -> Shown:
    """Progress on stderr as bars or lines, or none if quiet."""
    console = InertConsole(stderr=True)
    if quiet:
        return Shown()
    return _Bars(console) if console.is_terminal else _Lines(console)


class Shown(Silent):
    """Progress with an end, which leaves no bar and no hidden cursor behind."""

    def close(self) -> None:
        """Remove everything from the terminal."""


class _Lines(Heartbeat, Shown):
    """Progress as lines: messages, and at times the state of the phase."""

    def __init__(self, console: Console) -> None:
        super().__init__(lambda text: console.print(text, soft_wrap=True))


class _Bars(Shown):
    """One bar for the whole command: what it is at, and the time left, corrected as it goes.

    As long as nothing is known of the whole, the bar is that of the phase.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[left]}"),
        )
        self.bars = Progress(*columns, console=console, transient=True)
        self.current: TaskID | None = None
        self._began = time.monotonic()
        self._time_left = TimeLeft()
        self._done = self._total = 0

    def say(self, text: str) -> None:
        """Print it."""
        self.console.print(text, soft_wrap=True)

    def expect(self, part: str, seconds: float) -> None:
        """Correct the time left."""
        self._time_left.expect(part, seconds)
        self._refresh()

    def phase(self, title: str, total: int) -> None:
        """Say what the command is at."""
        self._done, self._total = 0, total
        if self.current is None:
            self.bars.start()
            self.current = self.bars.add_task("", total=1.0, left="")
        self.bars.update(self.current, description=printable(title))
        self._refresh()

    def advance(self, count: int) -> None:
        """Move the bar."""
        self._done += count
        self._refresh()

    def _refresh(self) -> None:
        if self.current is None:
            return
        share, left = self._done / max(self._total, 1), ""
        if self._time_left.is_known:
            seconds = self._time_left.seconds
            spent = time.monotonic() - self._began
            share, left = spent / (spent + seconds + TINY), f"about {in_words(seconds)} left"
        self.bars.update(self.current, completed=min(share, 1.0), left=left)

    def close(self) -> None:
        """Take the bar away."""
        if self.current is not None:
            self.bars.remove_task(self.current)
            self.current = None
            self.bars.stop()
