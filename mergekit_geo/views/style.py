"""How things in pictures are told apart: colour, marker and dash."""

from __future__ import annotations

from dataclasses import dataclass

from mergekit_geo.records.findings import Finding

COLOURS = ("#0072b2", "#008f5f", "#cc79a7", "#56b4e9", "#e6a400")
"""Colours of curves and models, distinct in every colour vision (Okabe and Ito 2008)."""
OUTPUT = "#d55e00"
"""Colour of what a command wrote; its marker is a star."""
INK = "#1b1b1b"
TRAILS = (INK, "#cc79a7", "#d55e00", "#e6a400", "#56b4e9")
"""Colours of paths over a surface, none of which is among those of heights."""
MARKERS = ("circle", "square", "triangle-up", "diamond", "cross", "x")
DASHES = ("solid", "dash", "dashdot", "longdash", "longdashdot")


@dataclass(frozen=True)
class Style:
    """How one of several things is drawn: any one of the three tells it from its neighbours."""

    colour: str
    marker: str
    dash: str


FOUND: dict[Finding, Style] = {
    "higher": Style("#d55e00", "square", "solid"),
    "same": Style("#7a7a7a", "circle", "solid"),
    "lower": Style("#0072b2", "diamond", "solid"),
    "unknown": Style("#7a7a7a", "circle-open", "solid"),
}
"""How a difference is drawn by what it tells: lost, kept, gained, or nothing."""


def style(number: int, *, stands_out: bool = False) -> Style:
    """How the thing of this number is drawn.

    Args:
        number: From 0.
        stands_out: Whether it is what a command wrote.

    Example:
        >>> style(1)
        Style(colour='#008f5f', marker='square', dash='dash')
    """
    if stands_out:
        return Style(OUTPUT, "star", "solid")
    return Style(*(kind[number % len(kind)] for kind in (COLOURS, MARKERS, DASHES)))


def trail_style(number: int) -> Style:
    """How one of several paths over a surface is drawn, the first in ink.

    Example:
        >>> trail_style(0)
        Style(colour='#1b1b1b', marker='circle', dash='solid')
        >>> trail_style(1)
        Style(colour='#cc79a7', marker='square', dash='dash')
    """
    own = style(number)
    return Style(TRAILS[number % len(TRAILS)], own.marker, own.dash)
