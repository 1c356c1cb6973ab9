"""Dots, bars and cells in rows that have names."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure

from mergekit_geo.views import chart
from mergekit_geo.views.matplotlib_.figure import (
    INK,
    MARKERS,
    MUTED,
    PAPER,
    captioned,
    escaped,
    plain,
    single,
)
from mergekit_geo.views.style import Style, style


def dots(picture: chart.Dots) -> Figure:
    """Forest plots side by side."""
    count = len(picture.panels)
    size = (max(1.9, 7.2 / count) * count + 1.0, 1.0 + 0.34 * len(picture.names))
    figure = Figure(figsize=size, layout="constrained")
    for panel, axes in zip(picture.panels, _panels(figure, count, picture.names), strict=True):
        _forest(axes, panel, picture)
        _finish(axes, panel.title)
        axes.locator_params(axis="x", nbins=4)
    return captioned(figure, picture.caption)


def _panels(figure: Figure, count: int, rows: Sequence[str]) -> list[Axes]:
    """Panels side by side over rows that have names, which stand at the first."""
    found = [plain(figure.add_subplot(1, count, number + 1)) for number in range(count)]
    for number, axes in enumerate(found):
        axes.set_yticks(range(len(rows)), [escaped(name) for name in rows])
        axes.tick_params(labelleft=number == 0)
    return found


def _finish(axes: Axes, title: str) -> None:
    """Title a panel, and have its first row above."""
    axes.set_ylim(len(axes.get_yticks()) - 0.5, -0.5)
    axes.set_xlabel(escaped(title), fontsize=9)
    axes.grid(visible=False, axis="y")


def _forest(axes: Axes, panel: chart.Panel, picture: chart.Dots) -> None:
    if panel.reference is not None:
        axes.axvline(panel.reference, color=MUTED, linestyle=":", linewidth=1.2)
    if panel.band is not None:
        axes.axvspan(*panel.band, color=MUTED, alpha=0.15, linewidth=0)
    for place, (dot, own) in enumerate(zip(panel.dots, picture.styles_in(panel), strict=True)):
        if dot is None:
            continue
        if dot.low is not None and dot.high is not None:
            axes.hlines(place, dot.low, dot.high, color=own.colour, linewidth=1.6)
        size = 11 if own.marker == "star" else 6
        inside = PAPER if own.marker.endswith("open") else own.colour
        axes.plot(dot.value, place, MARKERS[own.marker], color=own.colour, markersize=size,
                  markerfacecolor=inside)  # fmt: skip


def bars(picture: chart.Bars) -> Figure:
    """Bars side by side, and one legend of all series."""
    count = len(picture.panels)
    size = (max(3.4, 7.2 / count) * count + 1.0, 1.3 + 0.5 * len(picture.rows))
    figure = Figure(figsize=size, layout="constrained")
    for panel, axes in zip(picture.panels, _panels(figure, count, picture.rows), strict=True):
        for i, name in enumerate(picture.series):
            _series(axes, panel, i, style(i), escaped(name))
        axes.axvline(0, color=MUTED, linewidth=1)
        _finish(axes, panel.title)
        axes.margins(x=0.14)
    if len(picture.series) > 1:
        figure.legend(*axes.get_legend_handles_labels(), frameon=False, fontsize=8.5, ncols=2,
                      loc="outside upper left")  # fmt: skip
    return captioned(figure, picture.caption)


def _series(axes: Axes, panel: chart.BarPanel, number: int, own: Style, name: str) -> None:
    """The bars of one series, each with its interval and its label beyond that."""
    width = chart.BROAD / len(panel.bars)
    shift = width * (number - (len(panel.bars) - 1) / 2)
    found = [(i, dot) for i, dot in enumerate(panel.bars[number]) if dot is not None]
    places = [i + shift for i, _ in found]
    axes.barh(places, [dot.value for _, dot in found], 0.9 * width, color=own.colour, label=name)
    for place, (i, dot) in zip(places, found, strict=True):
        low, high = dot.ends
        axes.hlines(place, low, high, color=INK, linewidth=1.1)
        end, side = (high, 4) if dot.value >= 0 else (low, -4)
        axes.annotate(
            escaped(panel.labels[number][i]), (end, place), (side, 0), textcoords="offset points",
            ha="left" if side > 0 else "right", va="center", fontsize=8, color=INK,
        )  # fmt: skip


def matrix(picture: chart.Heatmap) -> Figure:
    """Cells with their numbers in them."""
    figure, axes = single(2.2 + 0.9 * len(picture.columns), 1.2 + 0.6 * len(picture.rows))
    values = [[math.nan if x is None else x for x in row] for row in picture.values]
    norm: Normalize = LogNorm(*picture.ends) if picture.log else Normalize(*picture.ends)
    shades = LinearSegmentedColormap.from_list("heat", chart.HEAT)
    axes.imshow(values, cmap=shades, norm=norm, aspect="auto")
    for i, row in enumerate(picture.values):
        for j, value in enumerate(row):
            if value is not None:
                shade = PAPER if norm(value) > 0.55 else INK  # noqa: PLR2004
                axes.text(j, i, f"{value:.3g}", ha="center", va="center", color=shade, fontsize=8)
    columns = [escaped(name) for name in picture.columns]
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(picture.rows)), [escaped(name) for name in picture.rows])
    axes.set_xlabel(escaped(picture.quantity), fontsize=9)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return captioned(figure, picture.caption)
