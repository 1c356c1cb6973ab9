"""Points of several kinds in planes, as values: what is drawn, before it is known by what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mergekit_geo.views.style import Style

MANY, SWARM = 120, 25
"""Points of a plane, and of a kind, from which on they are small, and let others shine through."""


@dataclass(frozen=True)
class Points:
    """Points of one kind.

    Attributes:
        name: Of the kind.
        style: How all of them are drawn.
        x: Of each.
        y: Of each.
        texts: What each is, for who points at it.
        labels: What stands beside each; none where empty.
        ends: Lower and upper end of the interval of each y, None where there is none.
        joined: Whether a line leads from each to the next.
    """

    name: str
    style: Style
    x: Sequence[float]
    y: Sequence[float]
    texts: Sequence[str]
    labels: Sequence[str] = ()
    ends: Sequence[tuple[float, float] | None] = ()
    joined: bool = False

    @property
    def arms(self) -> list[tuple[float, float]]:
        """How far the interval of each y reaches below it, and above."""
        pairs = zip(self.y, self.ends, strict=True) if self.ends else ()
        return [(y - ends[0], ends[1] - y) if ends else (0.0, 0.0) for y, ends in pairs]


@dataclass(frozen=True)
class Stairs:
    """A line that stays level from each place to the next, and the band of its intervals."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    band: tuple[Sequence[float], Sequence[float]] | None


@dataclass(frozen=True)
class ScatterPanel:
    """One plane of points.

    Attributes:
        x_title: Of the axis.
        y_title: Of the axis.
        points: By kind; later ones lie above earlier ones.
        stairs: A line among them.
        log: Whether x is logarithmic.
        counts: Whether x counts, in whole numbers.
        ticks: Names at the whole numbers of x, in place of numbers.
        width: Lower and upper end of x; chosen by the numbers if None.
        span: Lower and upper end of y; chosen by the numbers if None.
    """

    x_title: str
    y_title: str
    points: Sequence[Points]
    stairs: Stairs | None = None
    log: bool = False
    counts: bool = False
    ticks: Sequence[str] = ()
    width: tuple[float, float] | None = None
    span: tuple[float, float] | None = None

    @property
    def count(self) -> int:
        """Number of points."""
        return sum(len(kind.x) for kind in self.points)

    @property
    def decades(self) -> list[float]:
        """Ends and middle of a logarithmic x; none where x is linear, or its ends are not known."""
        if not self.log or self.width is None:
            return []
        low, high = self.width
        return [low, math.sqrt(low * high), high]


@dataclass(frozen=True)
class Scatters:
    """Planes of points side by side; of several, one legend or none tells all kinds.

    Attributes:
        panels: The planes.
        table: Head and rows of the numbers behind them.
        caption: How they are to be read.
    """

    panels: Sequence[ScatterPanel]
    table: tuple[list[str], list[list[str]]]
    caption: str = ""

    def numbers(self) -> tuple[list[str], list[list[str]]]:
        """The table behind the picture."""
        return self.table
