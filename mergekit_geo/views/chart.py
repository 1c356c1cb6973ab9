"""Pictures as values: what is drawn, before it is known by what.

matplotlib draws them into folders, plotly.js on pages. Names are as short as they are shown; each
back end takes from them what power they would have there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mergekit_geo.printable import printable
from mergekit_geo.records.landscape import ScaleEntry

COLOURS = ("#0b6e99", "#c2571a", "#4c8c2b", "#8b4a9c", "#b8860b", "#a8324a", "#3b6f6f", "#5a5a9c")
SKEWED = 2.5
"""Ratio of a surface's two ranges from which on it is no longer drawn to scale."""

NumberTable = tuple[list[str], list[list[str]]]
"""Head and rows of the table behind a picture."""


@dataclass(frozen=True)
class ErrorBar:
    """A height at one place, with the ends of its interval."""

    x: float
    low: float
    value: float
    high: float


@dataclass(frozen=True)
class Line:
    """A line through points in order, with the dashed chord from the first to the last.

    A height that is not a number is None. One height has an interval, one point may stand out.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    interval: ErrorBar | None = None
    star: tuple[float, float] | None = None

    @property
    def known(self) -> tuple[list[float], list[float]]:
        """Places and heights of the points that are numbers."""
        pairs = [(x, y) for x, y in zip(self.x, self.y, strict=True) if y is not None]
        return [x for x, _ in pairs], [y for _, y in pairs]


@dataclass(frozen=True)
class Lines:
    """Curves over one axis, with the titles of both."""

    x_title: str
    y_title: str
    curves: Sequence[Line]

    def numbers(self) -> NumberTable:
        """A row for each point."""
        return ["curve", self.x_title, "height"], [
            [curve.name, f"{x:.4f}", number(y)]
            for curve in self.curves
            for x, y in zip(curve.x, curve.y, strict=True)
        ]


@dataclass(frozen=True)
class Distribution:
    """A cumulative distribution: shares up to places, and the band of their intervals."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    band: tuple[Sequence[float], Sequence[float]] | None


@dataclass(frozen=True)
class Distributions:
    """Cumulative distributions; the axis is linear up to some size, and logarithmic beyond."""

    x_title: str
    y_title: str
    steps: Sequence[Distribution]
    linear_up_to: float

    def numbers(self) -> NumberTable:
        """A row for each step."""
        return ["curve", self.x_title, self.y_title], [
            [step.name, f"{x:.5g}", f"{y:.5f}"]
            for step in self.steps
            for x, y in zip(step.x, step.y, strict=True)
        ]


@dataclass(frozen=True)
class Panel:
    """A quantity of several things, with their errors where all are known."""

    title: str
    values: Sequence[float]
    errors: Sequence[float] | None


@dataclass(frozen=True)
class Bars:
    """Bars of the same models in every panel, some in another colour; two may share a name."""

    names: Sequence[str]
    outstanding: Sequence[bool]
    panels: Sequence[Panel]

    def numbers(self) -> NumberTable:
        """A row for each thing."""
        return ["", *(panel.title for panel in self.panels)], [
            [name, *(f"{panel.values[i]:.4g}" for panel in self.panels)]
            for i, name in enumerate(self.names)
        ]


@dataclass(frozen=True)
class Heatmap:
    """Numbers by row and column, as colours; None where there is none."""

    quantity: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]

    def numbers(self) -> NumberTable:
        """A row for each row of the matrix."""
        return [self.quantity, *self.columns], [
            [name, *map(number, row)] for name, row in zip(self.rows, self.values, strict=True)
        ]


@dataclass(frozen=True)
class Marker:
    """A thing on a surface, or beside it.

    Attributes:
        name: Of it.
        x: First coordinate of the nearest point of the surface's plane.
        y: Second coordinate.
        off: Distance from there.
        height: Its own.
        spans: Whether the plane goes through it by construction.
        on: Whether it lies there, as far as can be seen.
    """

    name: str
    x: float
    y: float
    off: float
    height: float
    spans: bool
    on: bool

    @property
    def label(self) -> str:
        """The name, and how far the thing lies off the surface's plane."""
        return self.name if self.on else f"{self.name} ({self.off:.3g} off)"


@dataclass(frozen=True)
class HeightMap:
    """Heights over a grid: a row for each y, None where one is not a number."""

    title: str
    x_title: str
    y_title: str
    x: Sequence[float]
    y: Sequence[float]
    heights: Sequence[Sequence[float | None]]
    marks: Sequence[Marker]

    @property
    def sides(self) -> tuple[float, float]:
        """Lengths of the ranges of x and y."""
        return self.x[-1] - self.x[0], self.y[-1] - self.y[0]

    @property
    def is_to_scale(self) -> bool:
        """Whether both coordinates can be drawn alike without leaving a strip."""
        return max(self.sides) <= SKEWED * min(self.sides)

    def share(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies in the picture, from 0 to 1 along each side."""
        width, depth = self.sides
        return (x - self.x[0]) / width, (y - self.y[0]) / depth

    def holds(self, mark: Marker) -> bool:
        """Whether a mark lies inside the picture."""
        return all(0 <= share <= 1 for share in self.share(mark.x, mark.y))


@dataclass(frozen=True)
class HeightMaps:
    """Surfaces with one scale of height and colour, seen from above.

    Heights beyond the scale, which has the title, are drawn at its ends.
    """

    panels: Sequence[HeightMap]
    scale: ScaleEntry
    title: str
    caption: str

    def numbers(self) -> NumberTable:
        """A row for each point of each grid."""
        return ["plane", "x", "y", "height"], [
            [panel.title, f"{x:.5g}", f"{y:.5g}", number(height)]
            for panel in self.panels
            for y, row in zip(panel.y, panel.heights, strict=True)
            for x, height in zip(panel.x, row, strict=True)
        ]


@dataclass(frozen=True)
class Relief(HeightMaps):
    """Surfaces to turn in three dimensions; for pages alone."""


Picture = Lines | Distributions | Bars | Heatmap | HeightMaps


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


def number(value: float | None, form: str = ".4f") -> str:
    """Format a number for a cell; empty for None."""
    return "" if value is None else format(value, form)
