"""Contours of landscapes, drawn from the report and from nothing else, and what they show.

Colours are viridis, dark where the loss is low, and the same in all pictures of a report.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mergekit_geo.records.landscape import LandscapeMeasurements, MarkEntry, SurfaceEntry
from mergekit_geo.views.landscape_text import (
    axis_title,
    label_of,
    lies_on,
    loss_title,
    short,
    title_of,
)
from mergekit_geo.views.levels import Floats, digits_of, heights, levels_of, overflow
from mergekit_geo.views.tables import describe_data

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.contour import QuadContourSet
    from matplotlib.figure import Figure

    from mergekit_geo.records.report import Report

INK, MUTED, PAPER, GAP = "#1b1b1b", "#6f6f6f", "white", "#d9d9d9"
COLOURS = "viridis"
FORMATS = ("png", "svg")
DPI = 130
COLUMNS = 3
SKEWED = 2.5
"""Ratio of the two ranges from which on a picture is no longer drawn to scale."""
EDGE = 0.04
"""Share of a picture along its edges in which a contour has no label: it would be cut."""
SIDE = 340
"""Points that a side of a picture is long, about."""
LETTER, LINE = 5.5 / SIDE, 12 / SIDE
"""Share of a picture that a letter is wide and a label high."""
CORNERS = ((9, 6), (-9, 6), (9, -14), (-9, -14), (9, 20), (-9, 20), (9, -28), (-9, -28))
"""Where a label may stand, in points from its mark, the best places first."""

Box = tuple[float, float, float, float]
"""Left, low, right and high end, in shares of a picture."""


def write_landscape(report: Report, folder: Path) -> None:
    """`landscape.npz`, then `.png`, `.svg` and `.html`, in a folder that is there."""
    from mergekit_geo.views.landscape_page import landscape_page

    assert isinstance(report.result, LandscapeMeasurements)
    np.savez(folder / "landscape.npz", allow_pickle=False, **landscape_arrays(report.result))
    figure = landscape_figure(report)
    for form in FORMATS:
        undated = {"Date": None} if form == "svg" else None
        figure.savefig(folder / f"landscape.{form}", dpi=DPI, metadata=undated, bbox_inches="tight")
    (folder / "landscape.html").write_text(landscape_page(report), "utf-8")


def landscape_arrays(measured: LandscapeMeasurements) -> dict[str, NDArray[np.generic]]:
    """The numbers of all surfaces, stacked: s surfaces, y rows, x points, m marks of each.

    Returns:
        `x` (s, x), `y` (s, y), `loss` (s, y, x) with NaN where it is not a number, `metric`
        likewise if there is one, `models` (s, m) names, `places` (s, m, 3): x, y, distance off.
    """
    surfaces = measured.surfaces
    arrays: dict[str, NDArray[np.generic]] = {
        "x": np.array([surface.x for surface in surfaces]),
        "y": np.array([surface.y for surface in surfaces]),
        "loss": np.array([heights(surface) for surface in surfaces]),
        "models": np.array([[mark.model for mark in surface.marks] for surface in surfaces]),
        "places": np.array(
            [[(m.x, m.y, m.off_plane) for m in surface.marks] for surface in surfaces]
        ),
    }
    metrics = [surface.metric for surface in surfaces if surface.metric is not None]
    return arrays | ({"metric": np.array(metrics, dtype=np.float64)} if metrics else {})


def landscape_figure(report: Report) -> Figure:
    """Contours of every surface side by side, with the models on them and one colour bar."""
    from matplotlib.figure import Figure

    measured = report.result
    assert isinstance(measured, LandscapeMeasurements)
    count = len(measured.surfaces)
    columns = min(count, COLUMNS)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(5.4 * columns + 1.6, 5.0 * rows + 0.6), layout="constrained")
    panels = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    for axes, surface in zip(panels, measured.surfaces, strict=True):
        filled = _draw_contours(axes, surface, measured)
        _draw_marks(axes, surface)
        _describe(axes, surface)
    bar = figure.colorbar(filled, ax=panels, spacing="uniform", pad=0.02, aspect=28)
    levels = levels_of(measured.scale)
    bar.set_ticks(list(levels), labels=[f"{x:.{digits_of(levels)}f}" for x in levels])
    bar.ax.tick_params(labelsize=8)
    bar.set_label(loss_title(report.data, measured.scale), fontsize=9)
    figure.suptitle(_plain(_told(report, measured)), fontsize=8, color=MUTED)
    return figure


def _draw_contours(
    axes: Axes, surface: SurfaceEntry, measured: LandscapeMeasurements
) -> QuadContourSet:
    levels, beyond = levels_of(measured.scale), overflow(measured)
    colours = _shades(levels, beyond)
    loss = heights(surface)
    low = None if beyond in ("min", "both") else levels[0]  # else rounding leaves a hole there
    high = None if beyond in ("max", "both") else levels[-1]
    values = np.ma.masked_invalid(np.where(np.isfinite(loss), np.clip(loss, low, high), np.nan))
    axes.set_facecolor(GAP)  # where the loss is not a number
    filled = axes.contourf(
        surface.x,
        surface.y,
        values,
        levels,
        colors=colours,
        extend=beyond,
    )
    lines = axes.contour(
        surface.x, surface.y, values, levels, colors=PAPER, linewidths=0.7, alpha=0.75
    )
    digits = digits_of(levels)
    for label in axes.clabel(lines, fontsize=7, fmt=lambda level: f"{level:.{digits}f}"):
        x, y = _share(surface, *label.get_position())
        label.set_visible(EDGE < x < 1 - EDGE and EDGE < y < 1 - EDGE)
    return filled


def _shades(levels: Floats, beyond: str) -> list[tuple[float, ...]]:
    """A colour for each stretch between levels, and for what lies beyond them."""
    from matplotlib import colormaps

    count = len(levels) - 1 + {"neither": 0, "both": 2}.get(beyond, 1)
    return [tuple(colormaps[COLOURS](i / max(count - 1, 1))) for i in range(count)]


def _draw_marks(axes: Axes, surface: SurfaceEntry) -> None:
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.5, foreground=PAPER)]
    taken: list[Box] = []
    for mark in surface.marks:
        share = _share(surface, mark.x, mark.y)
        if not _is_inside(mark, surface):
            continue
        on = lies_on(mark, surface)
        axes.plot(
            mark.x, mark.y, "o" if on else "D", markersize=7 if mark.spans else 5.5,
            color=PAPER if on else "none", markeredgecolor=INK if on else PAPER,
            markeredgewidth=1.4, zorder=5 if on else 4,
        )  # fmt: skip
        label = label_of(mark, surface)
        offset = _free_corner(share, label, taken)
        axes.annotate(
            _plain(label), (mark.x, mark.y), offset,
            textcoords="offset points", ha="left" if offset[0] > 0 else "right", fontsize=8.5,
            color=INK, zorder=6, path_effects=halo,
        )  # fmt: skip


def _is_inside(mark: MarkEntry, surface: SurfaceEntry) -> bool:
    return all(0 <= share <= 1 for share in _share(surface, mark.x, mark.y))


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


def _share(surface: SurfaceEntry, x: float, y: float) -> tuple[float, float]:
    """Where a point lies in a picture, from 0 to 1 along each side."""
    across = (x - surface.x[0]) / (surface.x[-1] - surface.x[0])
    return across, (y - surface.y[0]) / (surface.y[-1] - surface.y[0])


def _describe(axes: Axes, surface: SurfaceEntry) -> None:
    axes.set_title(_plain(title_of(surface)), fontsize=10, loc="left", color=INK)
    axes.set_xlabel(_plain(axis_title(surface, 0)), fontsize=9)
    axes.set_ylabel(_plain(axis_title(surface, 1)), fontsize=9)
    axes.tick_params(colors=INK, labelsize=8)
    axes.set_xlim(surface.x[0], surface.x[-1])
    axes.set_ylim(surface.y[0], surface.y[-1])
    axes.set_aspect("equal" if is_to_scale(surface) else "auto")


def is_to_scale(surface: SurfaceEntry) -> bool:
    """Whether both coordinates can be drawn alike without leaving a strip."""
    width, height = surface.x[-1] - surface.x[0], surface.y[-1] - surface.y[0]
    return max(width, height) <= SKEWED * min(width, height)


def _plain(text: str) -> str:
    """Text that matplotlib takes for no mathematics."""
    return text.replace("$", r"\$")


def _told(report: Report, measured: LandscapeMeasurements) -> str:
    """Subtitle: the data, and the size of the grid."""
    first = measured.surfaces[0]
    about = f"{describe_data(report.data)}; " if report.data else ""
    skewed = "" if all(map(is_to_scale, measured.surfaces)) else "; axes not to scale"
    outside = {
        short(mark.model)
        for surface in measured.surfaces
        for mark in surface.marks
        if not _is_inside(mark, surface)
    }
    hidden = f"; outside: {', '.join(sorted(outside))}" if outside else ""
    return f"{about}{len(first.x)} x {len(first.y)} points{skewed}{hidden}"
