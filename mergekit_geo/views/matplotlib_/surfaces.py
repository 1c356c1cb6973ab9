"""Surfaces from above, with their marks and paths."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from mergekit_geo.views import chart
from mergekit_geo.views.levels import Floats, digits_of, heights, labels_of, levels_of, overflow
from mergekit_geo.views.matplotlib_.figure import (
    DASHES,
    INK,
    MUTED,
    PAPER,
    escaped,
    rows_and_columns,
)
from mergekit_geo.views.style import trail_style

GAP = "#d9d9d9"
"""Colour where a loss is not a number."""
ABREAST = 3
"""Most surfaces in a row."""
EDGE = 0.04
"""Share of a picture along its edges in which a contour has no label: it would be cut."""
SIDE = 340
"""Points that a side of a surface is long, about."""
LETTER, LINE = 5.5 / SIDE, 12 / SIDE
"""Share of a picture that a letter is wide and a label high."""
CORNERS = ((9, 6), (-9, 6), (9, -14), (-9, -14), (9, 20), (-9, 20), (9, -28), (-9, -28))
"""Where a label may stand, in points from its mark, the best places first."""
Box = tuple[float, float, float, float]
"""Left, low, right and high end, in shares of a picture."""


def surfaces(picture: chart.HeightMaps) -> Figure:
    """Contours side by side, and one colour bar."""
    rows, columns = rows_and_columns(len(picture.panels), ABREAST)
    figure = Figure(figsize=(5.4 * columns + 1.6, 5.0 * rows + 0.6), layout="constrained")
    panels = [figure.add_subplot(rows, columns, i + 1) for i in range(len(picture.panels))]
    for axes, surface in zip(panels, picture.panels, strict=True):
        filled = _contours(axes, surface, picture)
        _trails(axes, surface)
        _marks(axes, surface)
        _frame(axes, surface)
    bar = figure.colorbar(filled, ax=panels, spacing="uniform", pad=0.02, aspect=28)
    bar.set_ticks(list(levels_of(picture.scale)), labels=labels_of(picture.scale))
    bar.ax.tick_params(labelsize=8)
    bar.set_label(escaped(picture.title), fontsize=9)
    figure.suptitle(escaped(_told(picture)), fontsize=8, color=MUTED)
    return figure


def _contours(axes: Axes, surface: chart.HeightMap, picture: chart.HeightMaps) -> QuadContourSet:
    levels, beyond = levels_of(picture.scale), overflow(picture)
    loss = heights(surface)
    low = None if beyond in ("min", "both") else levels[0]  # else rounding leaves a hole there
    high = None if beyond in ("max", "both") else levels[-1]
    values = np.ma.masked_invalid(np.where(np.isfinite(loss), np.clip(loss, low, high), np.nan))
    axes.set_facecolor(GAP)
    place = surface.x, surface.y, values, levels
    filled = axes.contourf(*place, colors=_shades(levels, beyond), extend=beyond)
    lines = axes.contour(*place, colors=PAPER, linewidths=0.7, alpha=0.75)
    digits = digits_of(levels)
    for label in axes.clabel(lines, fontsize=7, fmt=lambda level: f"{level:.{digits}f}"):
        x, y = surface.share(*label.get_position())
        label.set_visible(EDGE < x < 1 - EDGE and EDGE < y < 1 - EDGE)
    return filled


def _shades(levels: Floats, beyond: str) -> list[tuple[float, ...]]:
    """A colour for what lies between two levels, and for what lies beyond them."""
    count = len(levels) - 1 + {"neither": 0, "both": 2}.get(beyond, 1)
    return [tuple(colormaps["viridis"](i / max(count - 1, 1))) for i in range(count)]


def _trails(axes: Axes, surface: chart.HeightMap) -> None:
    """Paths over a surface; of several, a legend tells which is which."""
    halo = [withStroke(linewidth=3.6, foreground=PAPER)]
    for number, trail in enumerate(surface.trails):
        own = trail_style(number)
        axes.plot(
            trail.x, trail.y, linestyle=DASHES[own.dash], color=own.colour, linewidth=1.6,
            label=escaped(trail.name), path_effects=halo, zorder=3,
        )  # fmt: skip
    if len(surface.trails) > 1:
        axes.legend(fontsize=8, loc="best", framealpha=0.8)


def _marks(axes: Axes, surface: chart.HeightMap) -> None:
    halo = [withStroke(linewidth=2.5, foreground=PAPER)]
    taken: list[Box] = []
    for mark in filter(surface.holds, surface.marks):
        filled = mark.on or mark.brief is not None
        axes.plot(
            mark.x, mark.y, "o" if filled else "D", markersize=7 if mark.spans else 5.5,
            color=PAPER if filled else "none", markeredgecolor=INK if filled else PAPER,
            markeredgewidth=1.4, zorder=5 if filled else 4,
        )  # fmt: skip
        if not mark.label:
            continue
        offset = _free_corner(surface.share(mark.x, mark.y), mark.label, taken)
        axes.annotate(
            escaped(mark.label), (mark.x, mark.y), offset,
            textcoords="offset points", ha="left" if offset[0] > 0 else "right", fontsize=8.5,
            color=INK, zorder=6, path_effects=halo,
        )  # fmt: skip


def _free_corner(share: tuple[float, float], label: str, taken: list[Box]) -> tuple[int, int]:
    """Where a label stands clear of those before it, and inside the picture; it is then taken."""
    for right, up in CORNERS:
        left = share[0] + right / SIDE - (0 if right > 0 else LETTER * len(label))
        low = share[1] + up / SIDE
        box = (left, low, left + LETTER * len(label), low + LINE)
        inside = min(box) > 0 and max(box) < 1
        if inside and not any(_meet(box, other) for other in taken):
            taken.append(box)
            return right, up
    return CORNERS[0]


def _meet(first: Box, second: Box) -> bool:
    beside = first[2] <= second[0] or second[2] <= first[0]
    return not (beside or first[3] <= second[1] or second[3] <= first[1])


def _frame(axes: Axes, surface: chart.HeightMap) -> None:
    axes.set_title(escaped(surface.title), fontsize=10, loc="left", color=INK)
    axes.set_xlabel(escaped(surface.x_title), fontsize=9)
    axes.set_ylabel(escaped(surface.y_title), fontsize=9)
    axes.tick_params(colors=INK, labelsize=8)
    axes.set_xlim(surface.x[0], surface.x[-1])
    axes.set_ylim(surface.y[0], surface.y[-1])
    axes.set_aspect("equal" if surface.is_to_scale else "auto")


def _told(picture: chart.HeightMaps) -> str:
    """The caption, and what the picture does to its numbers."""
    to_scale = all(panel.is_to_scale for panel in picture.panels)
    outside = {m.name for p in picture.panels for m in p.marks if not p.holds(m)}
    hidden = f"; outside: {', '.join(sorted(outside))}" if outside else ""
    return f"{picture.caption}{'' if to_scale else '; axes not to scale'}{hidden}"
