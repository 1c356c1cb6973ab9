"""A plane of weight space for the page of a report: contours, and where models lie."""

from __future__ import annotations

import html
from typing import Any

from mergekit_geo.records.landscape import ScaleEntry, SurfaceEntry
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.views.landscape_text import axis_title, label_of, loss_title
from mergekit_geo.views.levels import digits_of, heights, levels_of, raised

SIDE = 520
"""Pixels of the picture's height."""


def landscape_chart(
    surface: SurfaceEntry, scale: ScaleEntry, data: DataEntry | None
) -> dict[str, Any]:
    """Contours of the loss on a plane, as plotly.js takes them.

    Args:
        surface: What was measured.
        scale: Of the colours; losses beyond it have the colour of its ends.
        data: What loss was measured on.
    """
    levels, loss = levels_of(scale), heights(surface)
    low, high = raised(levels[[0, -1]], scale).tolist()
    digits = digits_of(levels)
    z = [[None if x != x else x for x in row] for row in raised(loss, scale).tolist()]  # noqa: PLR0124
    contours = {
        "type": "contour", "x": surface.x, "y": surface.y, "z": z, "colorscale": "Viridis",
        "zmin": low, "zmax": high, "line": {"width": 0.5}, "hoverinfo": "skip",
        "contours": {"start": low, "end": high, "size": (high - low) / (len(levels) - 1)},
        "colorbar": {
            "title": {"text": html.escape(loss_title(data, scale)), "side": "right"},
            "tickvals": raised(levels, scale).tolist(), "thickness": 12,
            "ticktext": [f"{level:.{digits}f}" for level in levels],
        },
    }  # fmt: skip
    axes = [{"title": {"text": html.escape(axis_title(surface, number))}} for number in (0, 1)]
    layout = {"height": SIDE, "showlegend": False, "xaxis": axes[0], "yaxis": axes[1]}
    return {"data": [contours, _marks(surface)], "layout": layout}


def _marks(surface: SurfaceEntry) -> dict[str, Any]:
    names = [html.escape(label_of(mark, surface)) for mark in surface.marks]
    losses = [
        f"{name}<br>loss {mark.loss:.4f}" for name, mark in zip(names, surface.marks, strict=True)
    ]
    return {
        "type": "scatter", "mode": "markers+text", "text": names, "textposition": "top center",
        "x": [mark.x for mark in surface.marks], "y": [mark.y for mark in surface.marks],
        "hovertext": losses, "hoverinfo": "text", "textfont": {"color": "#ffffff"},
        "marker": {"size": 10, "color": "#ffffff", "line": {"color": "#1b1b1b", "width": 2}},
    }  # fmt: skip
