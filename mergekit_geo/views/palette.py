"""Colours and names that all pictures share."""

from __future__ import annotations

import math

from mergekit_geo.printable import printable

COLOURS = ("#0b6e99", "#c2571a", "#4c8c2b", "#8b4a9c", "#b8860b", "#a8324a", "#3b6f6f", "#5a5a9c")


def colours(count: int) -> list[str]:
    """The first `count` colours, repeated from the start where there are more."""
    return (list(COLOURS) * math.ceil(count / len(COLOURS)))[:count]


def short_name(name: str) -> str:
    """A model's name without its folders.

    Example:
        >>> short_name("runs/a/"), short_name("/")
        ('a', '/')
    """
    return printable(name.rstrip("/").rpartition("/")[2] or name)
