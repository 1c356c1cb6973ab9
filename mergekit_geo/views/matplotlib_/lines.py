"""Curves, steps, and planes of points."""

from __future__ import annotations

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from mergekit_geo.views import chart
from mergekit_geo.views.matplotlib_.figure import (
    DASHES,
    INK,
    MARKERS,
    captioned,
    escaped,
    plain,
    rows_and_columns,
    single,
)
from mergekit_geo.views.scatter import MANY, SWARM, Points, ScatterPanel, Scatters, Stairs
from mergekit_geo.views.style import OUTPUT, Style, style

ABREAST = 4
"""Most planes of points in a row."""
FEW = 3
"""Most names below a plane that stand upright."""


def curves(picture: chart.Lines) -> Figure:
    """Losses along paths, with the gaps between curves and chords."""
    figure, axes = single(7.0, 4.2)
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
        color=own.colour, markersize=5, linewidth=1.6, label=escaped(curve.name),
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
        escaped(gap.label), (gap.x, gap.label_height), (8 * side, 0),
        textcoords="offset points", ha="left" if side > 0 else "right", va="center", fontsize=8.5,
        color=INK,
    )  # fmt: skip


def steps(picture: chart.Distributions) -> Figure:
    """Cumulative distributions."""
    figure, axes = single(7.0, 4.2)
    for number, step in enumerate(picture.steps):
        _step(axes, step, style(number))
    axes.set_xscale("symlog", linthresh=picture.linear_up_to)
    return _titled(figure, axes, picture)


def _step(axes: Axes, step: Stairs, own: Style) -> None:
    axes.step(
        step.x, step.y, where="post", color=own.colour, linestyle=DASHES[own.dash], linewidth=1.6,
        label=escaped(step.name),
    )  # fmt: skip
    if step.band is not None:
        axes.fill_between(step.x, *step.band, step="post", color=own.colour, alpha=0.2)


def _titled(figure: Figure, axes: Axes, picture: chart.Lines | chart.Distributions) -> Figure:
    axes.set_xlabel(escaped(picture.x_title))
    axes.set_ylabel(escaped(picture.y_title))
    axes.legend(frameon=False, fontsize=8, loc="best")
    return captioned(figure, picture.caption)


def scatters(picture: Scatters) -> Figure:
    """Planes of points in rows, and one legend of all their kinds."""
    rows, columns = rows_and_columns(len(picture.panels), ABREAST)
    size = (7.0, 4.6) if rows == columns == 1 else (0.6 + 2.4 * columns, 0.7 + 2.1 * rows)
    figure = Figure(figsize=size, layout="constrained")
    kinds: dict[str, Artist] = {}
    for number, panel in enumerate(picture.panels):
        axes = plain(figure.add_subplot(rows, columns, number + 1))
        kinds |= _scatter(axes, panel)
        axes.set_xlabel(escaped(panel.x_title), fontsize=9)
        same = number % columns and picture.panels[number - 1].y_title == panel.y_title
        axes.set_ylabel("" if same else escaped(panel.y_title), fontsize=9)
    columns = max(2, int(size[0] / 1.8))
    figure.legend(list(kinds.values()), list(kinds), frameon=False, fontsize=8, ncols=columns,
                  loc="outside upper left")  # fmt: skip
    return captioned(figure, picture.caption)


def _scatter(axes: Axes, panel: ScatterPanel) -> dict[str, Artist]:
    """Draw one plane; what stands in the legend, by name."""
    found: dict[str, Artist] = {}
    if panel.stairs is not None:
        _step(axes, panel.stairs, style(0, stands_out=True))
        found[escaped(panel.stairs.name)] = axes.lines[-1]
    for kind in panel.points:
        found[escaped(kind.name)] = _points(axes, kind, panel.count >= MANY)
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
        angle, side = (40, "right") if len(panel.ticks) > FEW else (0, "center")
        names = [escaped(tick) for tick in panel.ticks]
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
        axes.annotate(escaped(words), (x, y), (5, 4), textcoords="offset points", fontsize=7.5,
                      color=INK)  # fmt: skip
    return drawn
