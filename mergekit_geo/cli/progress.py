"""Progress on stderr: bars on a terminal, lines elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mergekit_geo.printable import printable
from mergekit_geo.progress import Heartbeat, Silent
from mergekit_geo.views.inert import InertConsole


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
    """Progress as bars, one at a time."""

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
        """Print a message."""
        self.console.print(text, soft_wrap=True)

    def phase(self, title: str, total: int) -> None:
        """Replace the bar by one for the new phase."""
        self.close()
        self.bars.start()
        self.current = self.bars.add_task(printable(title), total=total)

    def advance(self, count: int) -> None:
        """Advance the bar, and remove it at its end."""
        if self.current is None:
            return
        self.bars.advance(self.current, count)
        if self.bars.finished:
            self.close()

    def close(self) -> None:
        """Remove the bar."""
        if self.current is not None:
            self.bars.remove_task(self.current)
            self.current = None
            self.bars.stop()
