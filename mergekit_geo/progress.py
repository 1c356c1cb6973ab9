"""How long work tells of itself without printing: the caller decides what is shown."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told what is going on. One phase follows another."""

    def phase(self, title: str, total: int) -> None:
        """A new phase of `total` steps begins."""

    def advance(self, count: int) -> None:
        """So many more steps of the phase are done."""

    def say(self, text: str) -> None:
        """Something worth knowing, such as what the next phase will cost."""


class Silent:
    """Shows nothing."""

    def phase(self, title: str, total: int) -> None:
        """Ignored."""

    def advance(self, count: int) -> None:
        """Ignored."""

    def say(self, text: str) -> None:
        """Ignored."""
