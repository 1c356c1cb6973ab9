"""A console on which text from outside is only text."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from mergekit_geo.printable import printable


class InertConsole(Console):
    """A console without markup, emoji and colours by guess, that shows each text in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, markup=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, with invisible characters escaped."""
        inert = [printable(o) if isinstance(o, str) else o for o in objects]
        super().print(*inert, **options)
