"""Pictures as values: what is drawn, before it is known by what.

matplotlib draws them into folders, plotly.js on pages. Names are as short as they are shown; each
back end takes from them what power they would have there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mergekit_geo.printable import printable
from mergekit_geo.records.findings import Finding
from mergekit_geo.records.landscape import ScaleEntry
from mergekit_geo.views.scatter import Scatters, Stairs
from mergekit_geo.views.style import FOUND, Style, style

HEAT = ("#f7fbff", "#c6dbef", "#6baed6", "#2171b5", "#08306b")
"""Colours of a matrix, from small to large."""
BESIDE = 0.012
"""Distance of gaps that are drawn side by side."""
BROAD = 0.84
"""Share of a row that its bars take."""
TRACED = 7
"""Points from which on a line through them is drawn as a curve."""
SKEWED = 2.5
"""Ratio of a surface's two ranges from which on it is no longer drawn to scale."""

NumberTable = tuple[list[str], list[list[str]]]
"""Head and rows of the table behind a picture."""


@dataclass(frozen=True)
class Gap:
    """The height of a curve above its chord at one place.

    Attributes:
        x: The place; gaps at one place stand side by side.
        foot: Of the chord there.
        height: Of the curve above that; negative below it.
        low: Lower end of the height's interval.
        high: Upper end.
        label: What it is called.
        left: Whether that stands to the left.
        share: Of the gap, at which it stands.
    """

    x: float
    foot: float
    height: float
    low: float
    high: float
    label: str
    left: bool = True
    share: float = 0.2

    @property
    def label_height(self) -> float:
        """Where the label stands: near the foot, where curves are far from each other."""
        return self.foot + self.share * self.height

    def beside(self, number: int, count: int) -> Gap:
        """The gap as one of several at a place: a little aside, its label clear of the others'."""
        shift = BESIDE * (number - (count - 1) / 2)
        left, share = 2 * number < count, self.share * (1 + number // 2 + number % 2 * 0.5)
        return replace(self, x=self.x + shift, left=left, share=share)


@dataclass(frozen=True)
class Line:
    """A line through points in order, with the dotted chord from the first to the last.

    A height that is not a number is None. One gap may be marked, and the point of an output.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    gap: Gap | None = None
    star: tuple[float, float] | None = None

    @property
    def known(self) -> tuple[list[float], list[float]]:
        """Places and heights of the points that are numbers."""
        pairs = [(x, y) for x, y in zip(self.x, self.y, strict=True) if y is not None]
        return [x for x, _ in pairs], [y for _, y in pairs]

    @property
    def is_traced(self) -> bool:
        """Whether there are enough points for a line through them to tell what lies between."""
        return len(self.known[0]) >= TRACED


@dataclass(frozen=True)
class Lines:
    """Curves over one axis, with the titles of both."""

    x_title: str
    y_title: str
    curves: Sequence[Line]
    caption: str = ""

    def numbers(self) -> NumberTable:
        """A row for each point."""
        return ["curve", self.x_title, "height"], [
            [curve.name, f"{x:.4f}", number(y)]
            for curve in self.curves
            for x, y in zip(curve.x, curve.y, strict=True)
        ]


@dataclass(frozen=True)
class Distributions:
    """Cumulative distributions; the axis is linear up to some size, and logarithmic beyond."""

    x_title: str
    y_title: str
    steps: Sequence[Stairs]
    linear_up_to: float
    caption: str = ""

    def numbers(self) -> NumberTable:
        """A row for each step."""
        return ["curve", self.x_title, self.y_title], [
            [step.name, f"{x:.5g}", f"{y:.5f}"]
            for step in self.steps
            for x, y in zip(step.x, step.y, strict=True)
        ]


@dataclass(frozen=True)
class Dot:
    """A number with the ends of its interval, where it has one."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """Ends of the interval; the number twice where it has none."""
        if self.low is None or self.high is None:
            return self.value, self.value
        return self.low, self.high

    @property
    def text(self) -> str:
        """The number with its interval."""
        if self.low is None or self.high is None:
            return f"{self.value:.4g}"
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class Panel:
    """A forest plot: a dot with its interval for each thing, or none.

    Attributes:
        title: Of the axis.
        dots: One for each thing.
        reference: Where a line stands across all of them.
        band: A range that is shaded.
        findings: What each tells here, where that is not the same in all panels.
    """

    title: str
    dots: Sequence[Dot | None]
    reference: float | None = None
    band: tuple[float, float] | None = None
    findings: Sequence[Finding] = ()


@dataclass(frozen=True)
class Dots:
    """Forest plots of the same things side by side; two things may share a name.

    Attributes:
        names: Of the things.
        outstanding: Which of them a command wrote.
        panels: Side by side.
        caption: How they are to be read.
        findings: What each tells, where things are drawn by that.
    """

    names: Sequence[str]
    outstanding: Sequence[bool]
    panels: Sequence[Panel]
    caption: str = ""
    findings: Sequence[Finding] = ()

    def numbers(self) -> NumberTable:
        """A row for each thing."""
        return ["", *(panel.title for panel in self.panels)], [
            [name, *(dot.text if (dot := panel.dots[i]) else "" for panel in self.panels)]
            for i, name in enumerate(self.names)
        ]

    def styles_in(self, panel: Panel) -> list[Style]:
        """How each thing is drawn in a panel."""
        if findings := panel.findings or self.findings:
            return [FOUND[found] for found in findings]
        return [style(i, stands_out=found) for i, found in enumerate(self.outstanding)]


@dataclass(frozen=True)
class BarPanel:
    """Bars of one panel: for each series one for each row, None where there is none.

    Attributes:
        title: Of the axis.
        bars: By series, then by row.
        labels: Beside the bars, likewise.
    """

    title: str
    bars: Sequence[Sequence[Dot | None]]
    labels: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Bars:
    """Horizontal bars from zero with their intervals, several series side by side in each row.

    Attributes:
        rows: Names, the uppermost first.
        series: Names; each has a colour.
        panels: Of the same rows and series, beside each other.
        caption: What is to be known of it.
    """

    rows: Sequence[str]
    series: Sequence[str]
    panels: Sequence[BarPanel]
    caption: str = ""

    def numbers(self) -> NumberTable:
        """A row for each row, a column for each series of each panel."""
        head = [f"{name}, {panel.title}" for panel in self.panels for name in self.series]
        cells = [
            [dot.text if (dot := bars[i]) else "" for panel in self.panels for bars in panel.bars]
            for i in range(len(self.rows))
        ]
        return ["", *head], [[name, *row] for name, row in zip(self.rows, cells, strict=True)]


@dataclass(frozen=True)
class Heatmap:
    """Numbers by row and column, as colours from light to dark; None where there is none.

    Attributes:
        quantity: What they are of.
        rows: Names.
        columns: Names.
        values: A row for each row.
        log: Whether colours are even in the logarithm.
        caption: What is to be known of it.
    """

    quantity: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
    log: bool = False
    caption: str = ""

    def numbers(self) -> NumberTable:
        """A row for each row of the matrix."""
        return [self.quantity, *self.columns], [
            [name, *(number(value, ".4g") for value in row)]
            for name, row in zip(self.rows, self.values, strict=True)
        ]

    @property
    def known(self) -> list[float]:
        """All that is a number; positive ones alone where colours are logarithmic."""
        values = [value for row in self.values for value in row if value is not None]
        return [value for value in values if value > 0 or not self.log]

    @property
    def ends(self) -> tuple[float, float]:
        """Numbers of the first and the last colour; 0 is among them on a linear scale."""
        zero = [] if self.log else [0.0]
        low, high = (end([*zero, *self.known], default=1.0) for end in (min, max))
        return (low, high) if low < high else (low, low + 1.0)


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
        brief: What stands beside it in place of its label; nothing if empty.
    """

    name: str
    x: float
    y: float
    off: float
    height: float
    spans: bool
    on: bool
    brief: str | None = None

    @property
    def told(self) -> str:
        """The name, and how far the thing lies off the surface's plane."""
        return self.name if self.on else f"{self.name} ({self.off:.3g} off)"

    @property
    def label(self) -> str:
        """What stands beside it."""
        return self.told if self.brief is None else self.brief


@dataclass(frozen=True)
class Trail:
    """A path over a surface, through points in order.

    Attributes:
        name: Of it.
        x: First coordinates.
        y: Second coordinates.
        heights: Of the points themselves, wherever they lie.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    heights: Sequence[float]


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
    trails: Sequence[Trail] = ()

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


Picture = Lines | Distributions | Dots | Bars | Heatmap | HeightMaps | Scatters


def short_name(name: str) -> str:
    """A model's name without its folders.

    Example:
        >>> short_name("runs/a/"), short_name("/")
        ('a', '/')
    """
    return printable(name.rstrip("/").rpartition("/")[2] or name)


def label(name: str, most: int = 24) -> str:
    """A model's name that fits beside a picture, without its folders and its middle.

    Example:
        >>> label("runs/a/"), label("org/llama-3.2-1b-instruct-finetuned-on-code", most=16)
        ('a', 'llama-3.…on-code')
    """
    short = short_name(name)
    if len(short) <= most:
        return short
    half = (most - 1) // 2
    return f"{short[: most - 1 - half]}…{short[-half:]}"


def number(value: float | None, form: str = ".4f") -> str:
    """Format a number for a cell; empty for None."""
    return "" if value is None else format(value, form)
