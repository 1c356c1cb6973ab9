"""Pictures by matplotlib, as files; the same numbers give the same bytes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, NullFormatter

from mergekit_geo.views import chart
from mergekit_geo.views.levels import Floats, digits_of, heights, labels_of, levels_of, overflow
from mergekit_geo.views.scatter import MANY, SWARM, Points, ScatterPanel, Scatters, Stairs
from mergekit_geo.views.style import OUTPUT, Style, style, trail_style

INK, MUTED, PAPER, GAP = "#1b1b1b", "#8a8a8a", "white", "#d9d9d9"
FORMATS = ("png", "svg")
DPI = 150
SALT = "mergekit_geo"
"""Salt of the ids in SVG, which are random without one."""
SURFACES, SCATTERS = 3, 4
"""Surfaces in a row, and planes of points."""
MARKERS = {
    "circle": "o", "square": "s", "triangle-up": "^", "diamond": "D", "cross": "P", "x": "X",
    "star": "*", "circle-open": "o",
}  # fmt: skip
DASHES: dict[str, Any] = {
    "solid": "-", "dash": "--", "dashdot": "-.", "longdash": (0, (9, 3)),
    "longdashdot": (0, (9, 3, 1, 3)),
}  # fmt: skip
WORDS = 108
"""Characters in a line of a caption."""
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


def save(picture: chart.Picture, stem: Path) -> None:
    """Draw a picture into files, as PNG and SVG.

    Args:
        picture: What is drawn.
        stem: Path of the files without their suffix, in a folder that is there.
    """
    figure = draw(picture)
    with rc_context({"svg.hashsalt": SALT}):
        for form in FORMATS:
            undated = {"Date": None} if form == "svg" else None
            path = stem.with_suffix(f".{form}")
            figure.savefig(path, dpi=DPI, metadata=undated, bbox_inches="tight")


def draw(picture: chart.Picture) -> Figure:
    """Draw a picture as a figure."""
    return DRAWN[type(picture)](picture)


def _curves(picture: chart.Lines) -> Figure:
    figure, axes = _single(7.0, 4.2)
    for number, curve in enumerate(picture.curves):
        _curve(axes, curve, number)
    axes.set_xlim(-0.02, 1.02)
    return _titled(figure, axes, picture)


def _curve(axes: Axes, curve: chart.Line, number: int) -> None:
    xs, ys = curve.known
    if not xs:
        return
    own = style(number)
    axes.plot(
        xs, ys, marker=MARKERS[own.marker], linestyle=DASHES[own.dash] if curve.is_traced else "",
        color=own.colour, markersize=5, linewidth=1.6, label=_text(curve.name),
    )  # fmt: skip
    axes.plot([xs[0], xs[-1]], [ys[0], ys[-1]], ":", color=own.colour, linewidth=1.2)
    if curve.gap is not None:
        _gap(axes, curve.gap, number)
    if curve.star is not None:
        axes.plot(*curve.star, "*", color=OUTPUT, markersize=13, label="output", zorder=3)


def _gap(axes: Axes, gap: chart.Gap, number: int) -> None:
    """A bracket from the chord to the curve, and the interval of its height as a broad bar."""
    colour, top = style(number).colour, gap.foot + gap.height
    axes.plot([gap.x] * 2, [gap.foot, top], "-_", color=colour, markersize=11, linewidth=1.6)
    ends = gap.foot + gap.low, gap.foot + gap.high
    axes.vlines(gap.x, *ends, color=colour, linewidth=6, alpha=0.3)
    side = -1 if gap.left else 1
    axes.annotate(
        _text(gap.label), (gap.x, gap.label_height), (8 * side, 0),
        textcoords="offset points", ha="left" if side > 0 else "right", va="center", fontsize=8.5,
        color=INK,
    )  # fmt: skip


def _steps(picture: chart.Distributions) -> Figure:
    figure, axes = _single(7.0, 4.2)
    for number, step in enumerate(picture.steps):
        _step(axes, step, style(number))
    axes.set_xscale("symlog", linthresh=picture.linear_up_to)
    return _titled(figure, axes, picture)


def _step(axes: Axes, step: Stairs, own: Style) -> None:
    axes.step(
        step.x, step.y, where="post", color=own.colour, linestyle=DASHES[own.dash], linewidth=1.6,
        label=_text(step.name),
    )  # fmt: skip
    if step.band is not None:
        axes.fill_between(step.x, *step.band, step="post", color=own.colour, alpha=0.2)


def _scatters(picture: Scatters) -> Figure:
    """Planes of points in rows, and one legend of all their kinds."""
    rows, columns = _grid(len(picture.panels), SCATTERS)
    size = (7.0, 4.6) if rows == columns == 1 else (0.6 + 2.4 * columns, 0.7 + 2.1 * rows)
    figure = Figure(figsize=size, layout="constrained")
    kinds: dict[str, Artist] = {}
    for number, panel in enumerate(picture.panels):
        axes = _plain(figure.add_subplot(rows, columns, number + 1))
        kinds |= _scatter(axes, panel)
        axes.set_xlabel(_text(panel.x_title), fontsize=9)
        same = number % columns and picture.panels[number - 1].y_title == panel.y_title
        axes.set_ylabel("" if same else _text(panel.y_title), fontsize=9)
    columns = max(2, int(size[0] / 1.8))
    figure.legend(list(kinds.values()), list(kinds), frameon=False, fontsize=8, ncols=columns,
                  loc="outside upper left")  # fmt: skip
    return _captioned(figure, picture.caption)


def _scatter(axes: Axes, panel: ScatterPanel) -> dict[str, Artist]:
    """Draw one plane; what stands in the legend, by name."""
    found: dict[str, Artist] = {}
    if panel.stairs is not None:
        _step(axes, panel.stairs, style(0, stands_out=True))
        found[_text(panel.stairs.name)] = axes.lines[-1]
    for kind in panel.points:
        found[_text(kind.name)] = _points(axes, kind, panel.count >= MANY)
    if panel.span is not None:
        axes.set_ylim(panel.span)
    _across(axes, panel)
    return found


def _across(axes: Axes, panel: ScatterPanel) -> None:
    """Ends, scale and ticks of x."""
    if panel.log:
        axes.set_xscale("log")
        axes.set_xticks(panel.decades, [f"{tick:.2g}" for tick in panel.decades])
        axes.xaxis.set_minor_formatter(NullFormatter())
    if panel.counts:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if panel.ticks:
        angle, side = (40, "right") if len(panel.ticks) > SURFACES else (0, "center")
        names = [_text(tick) for tick in panel.ticks]
        axes.set_xticks(range(len(names)), names, rotation=angle, ha=side)
    if panel.width is not None and not panel.log:
        room = 0.06 * (panel.width[1] - panel.width[0])
        axes.set_xlim(panel.width[0] - room, panel.width[1] + room)


def _points(axes: Axes, kind: Points, many: bool) -> Artist:
    """Draw points of one kind, and what stands beside them."""
    own = kind.style
    is_small, inside = many and len(kind.x) >= SWARM, own.marker.removesuffix("-open")
    size = 13 if own.marker == "star" else 3.5 if is_small else 6
    (drawn,) = axes.plot(
        kind.x, kind.y, MARKERS[inside], color=own.colour, markersize=size, markeredgewidth=1,
        markerfacecolor="none" if inside != own.marker else own.colour,
        alpha=0.5 if is_small else 0.8, zorder=4 if own.marker == "star" else 3,
        clip_on=False,
    )  # fmt: skip
    if kind.joined:
        axes.plot(kind.x, kind.y, DASHES[own.dash], color=own.colour, linewidth=1.4, zorder=2)
    if kind.arms:
        axes.errorbar(kind.x, kind.y, [*zip(*kind.arms, strict=True)], fmt="none", zorder=2,
                      ecolor=own.colour, elinewidth=1.1, capsize=2.5)  # fmt: skip
    for x, y, words in zip(kind.x, kind.y, kind.labels, strict=False):
        axes.annotate(_text(words), (x, y), (5, 4), textcoords="offset points", fontsize=7.5,
                      color=INK)  # fmt: skip
    return drawn


def _titled(figure: Figure, axes: Axes, picture: chart.Lines | chart.Distributions) -> Figure:
    axes.set_xlabel(_text(picture.x_title))
    axes.set_ylabel(_text(picture.y_title))
    axes.legend(frameon=False, fontsize=8, loc="best")
    return _captioned(figure, picture.caption)


def _captioned(figure: Figure, caption: str) -> Figure:
    """Stand a caption below a figure."""
    lines = textwrap.fill(_text(caption), max(40, int(WORDS * figure.get_figwidth() / 7)))
    figure.text(0.01, -0.02, lines, fontsize=7.5, color=MUTED, va="top")
    return figure


def _dots(picture: chart.Dots) -> Figure:
    count, names = len(picture.panels), [_text(name) for name in picture.names]
    width = max(1.9, 7.2 / count)
    figure = Figure(figsize=(width * count + 1.0, 1.0 + 0.34 * len(names)), layout="constrained")
    for number, panel in enumerate(picture.panels):
        axes = _plain(figure.add_subplot(1, count, number + 1))
        _forest(axes, panel, picture)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(labelleft=number == 0)
        axes.set_ylim(len(names) - 0.5, -0.5)
    return _captioned(figure, picture.caption)


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
    axes.set_xlabel(_text(panel.title), fontsize=9)
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=4)


def _bars(picture: chart.Bars) -> Figure:
    count, rows = len(picture.panels), [_text(name) for name in picture.rows]
    size = (max(3.4, 7.2 / count) * count + 1.0, 1.3 + 0.5 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    for number, panel in enumerate(picture.panels):
        axes = _plain(figure.add_subplot(1, count, number + 1))
        for i, name in enumerate(picture.series):
            _series(axes, panel, i, style(i), _text(name))
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(labelleft=number == 0)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(_text(panel.title), fontsize=9)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.14)
    if len(picture.series) > 1:
        figure.legend(*axes.get_legend_handles_labels(), frameon=False, fontsize=8.5, ncols=2,
                      loc="outside upper left")  # fmt: skip
    return _captioned(figure, picture.caption)


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
            _text(panel.labels[number][i]), (end, place), (side, 0), textcoords="offset points",
            ha="left" if side > 0 else "right", va="center", fontsize=8, color=INK,
        )  # fmt: skip


def _matrix(picture: chart.Heatmap) -> Figure:
    figure, axes = _single(2.2 + 0.9 * len(picture.columns), 1.2 + 0.6 * len(picture.rows))
    values = [[math.nan if x is None else x for x in row] for row in picture.values]
    norm: Normalize = LogNorm(*picture.ends) if picture.log else Normalize(*picture.ends)
    shades = LinearSegmentedColormap.from_list("heat", chart.HEAT)
    axes.imshow(values, cmap=shades, norm=norm, aspect="auto")
    for i, row in enumerate(picture.values):
        for j, value in enumerate(row):
            if value is not None:
                shade = PAPER if norm(value) > 0.55 else INK  # noqa: PLR2004
                axes.text(j, i, f"{value:.3g}", ha="center", va="center", color=shade, fontsize=8)
    columns = [_text(name) for name in picture.columns]
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(picture.rows)), [_text(name) for name in picture.rows])
    axes.set_xlabel(_text(picture.quantity), fontsize=9)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return _captioned(figure, picture.caption)


def _surfaces(picture: chart.HeightMaps) -> Figure:
    """Contours side by side, and one colour bar."""
    rows, columns = _grid(len(picture.panels), SURFACES)
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
    bar.set_label(_text(picture.title), fontsize=9)
    figure.suptitle(_text(_told(picture)), fontsize=8, color=MUTED)
    return figure


def _contours(axes: Axes, surface: chart.HeightMap, picture: chart.HeightMaps) -> QuadContourSet:
    levels, beyond = levels_of(picture.scale), overflow(picture)
    loss = heights(surface)
    low = None if beyond in ("min", "both") else levels[0]  # else rounding leaves a hole there
    high = None if beyond in ("max", "both") else levels[-1]
    values = np.ma.masked_invalid(np.where(np.isfinite(loss), np.clip(loss, low, high), np.nan))
    axes.set_facecolor(GAP)  # where the loss is not a number
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
            label=_text(trail.name), path_effects=halo, zorder=3,
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
            _text(mark.label), (mark.x, mark.y), offset,
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
    axes.set_title(_text(surface.title), fontsize=10, loc="left", color=INK)
    axes.set_xlabel(_text(surface.x_title), fontsize=9)
    axes.set_ylabel(_text(surface.y_title), fontsize=9)
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


def _grid(count: int, abreast: int) -> tuple[int, int]:
    """Rows and columns of panels."""
    columns = min(count, abreast)
    return math.ceil(count / columns), columns


def _single(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, _plain(figure.add_subplot())


def _plain(axes: Axes) -> Axes:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(visible=True, color=MUTED, alpha=0.2, linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def _text(words: str) -> str:
    """Text that matplotlib takes for no mathematics."""
    return words.replace("$", r"\$")


DRAWN: dict[type, Callable[[Any], Figure]] = {
    chart.Lines: _curves,
    chart.Distributions: _steps,
    chart.Dots: _dots,
    chart.Bars: _bars,
    chart.Heatmap: _matrix,
    chart.HeightMaps: _surfaces,
    chart.Relief: _surfaces,
    Scatters: _scatters,
}
