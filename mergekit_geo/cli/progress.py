"""Progress on stderr: bars on a terminal, lines elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mergekit_geo.printable import printable
from mergekit_geo.progress import Heartbeat, Silent
from mergekit_geo.views.inert import InertConsole


def console_progress(*, quiet: bool) -> Shown:
    """What shows progress on stderr, or nothing."""
    console = InertConsole(stderr=True)
    if quiet:
        return Shown()
    return _Bars(console) if console.is_terminal else _Lines(console)


class Shown(Silent):
    """Progress that a command ends, so that no bar and no hidden cursor is left behind."""

    def close(self) -> None:
        """Take everything off the terminal."""


class _Lines(Heartbeat, Shown):
    """What is said, and at times what is going on."""

    def __init__(self, console: Console) -> None:
        super().__init__(lambda text: console.print(text, soft_wrap=True))


class _Bars(Shown):
    """One bar at a time."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
        )
        self.bars = Progress(*columns, console=console, transient=True)
        self.current: TaskID | None = None

    def say(self, text: str) -> None:
        """Print it."""
        self.console.print(text, soft_wrap=True)

    def phase(self, title: str, total: int) -> None:
        """Replace the bar."""
        self.close()
        self.bars.start()
        self.current = self.bars.add_task(printable(title), total=total)

    def advance(self, count: int) -> None:
        """Move the bar, and take it away at its end."""
        if self.current is None:
            return
        self.bars.advance(self.current, count)
        if self.bars.finished:
            self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self.current is not None:
            self.bars.remove_task(self.current)
            self.current = None
            self.bars.stop()
