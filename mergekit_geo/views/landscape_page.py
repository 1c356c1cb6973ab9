"""An interactive page of landscapes: surfaces to turn, in one file that asks no network."""

from __future__ import annotations

from html import escape
from math import hypot
from typing import TYPE_CHECKING, Any

import numpy as np

from mergekit_geo.records.landscape import (
    LandscapeMeasurements,
    MarkEntry,
    ScaleEntry,
    SurfaceEntry,
)
from mergekit_geo.views.landscape_figures import COLOURS, INK, PAPER, is_to_scale
from mergekit_geo.views.landscape_text import (
    axis_title,
    label_of,
    landscape_lines,
    lies_on,
    loss_title,
    title_of,
)
from mergekit_geo.views.levels import Floats, digits_of, heights, levels_of, raised
from mergekit_geo.views.tables import describe_data

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from mergekit_geo.records.losses import DataEntry
    from mergekit_geo.records.report import Report

HEIGHT = "min(640px, 95vw)"
NEAR = 0.15
"""Share of a picture within which names above two models would cover each other."""
STYLE = """
body { margin: 0; padding: 1rem; font: 16px/1.45 system-ui, sans-serif; color: #1b1b1b; }
h1 { font-size: 1.25rem; margin: 0 0 .25rem; } h2 { font-size: 1rem; margin: 1.25rem 0 0; }
p { margin: 0 0 .25rem; color: #555; overflow-wrap: anywhere; } figure { margin: 0; }
"""


def landscape_page(report: Report) -> str:
    """The whole page, plotly included once.

    Args:
        report: Of a landscape.
    """
    measured = report.result
    assert isinstance(measured, LandscapeMeasurements)
    about = [f"measured on {describe_data(report.data)}"] if report.data else []
    lines = "".join(f"<p>{escape(line)}</p>" for line in [*about, *landscape_lines(measured)])
    parts = "".join(
        _part(surface, measured.scale, report.data, first=index == 0)
        for index, surface in enumerate(measured.surfaces)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Loss landscape</title><style>{STYLE}</style></head><body>"
        f"<h1>Loss landscape</h1>{lines}{parts}</body></html>\n"
    )


def _part(surface: SurfaceEntry, scale: ScaleEntry, data: DataEntry | None, *, first: bool) -> str:
    html = surface_figure(surface, scale, data).to_html(
        full_html=False,
        include_plotlyjs=first,
        default_height=HEIGHT,
        config={"displaylogo": False, "responsive": True},
    )
    return f"<h2>{escape(title_of(surface))}</h2><figure>{html}</figure>"


def surface_figure(surface: SurfaceEntry, scale: ScaleEntry, data: DataEntry | None) -> Figure:
    """One surface in three dimensions, with a pin at every model, down to the model's own loss.

    Args:
        surface: What was measured.
        scale: Of height and colours; losses beyond it are drawn at its ends.
        data: What loss was measured on.
    """
    from plotly.graph_objects import Figure

    figure = Figure([_sheet(surface, scale, data), *_pins(surface, scale)])
    figure.update_layout(
        scene=_scene(surface, scale, data), margin=dict.fromkeys("lrtb", 0), showlegend=False
    )
    return figure


def _sheet(surface: SurfaceEntry, scale: ScaleEntry, data: DataEntry | None) -> Any:
    from plotly.graph_objects import Surface

    levels, loss = levels_of(scale), heights(surface)
    low, high = raised(levels[[0, -1]], scale).tolist()
    lines = {
        "show": True, "color": PAPER, "width": 1, "highlight": False, "start": low, "end": high,
        "size": (high - low) / (len(levels) - 1),
    }  # fmt: skip
    bar = {
        "title": {"text": escape(loss_title(data, scale)), "side": "right"},
        "len": 0.75, "thickness": 14, **_ticks(levels, scale),
    }  # fmt: skip
    return Surface(
        x=surface.x, y=surface.y, z=raised(loss, scale), customdata=loss, colorscale=COLOURS,
        cmin=low, cmax=high, colorbar=bar, contours={"z": lines},
        hovertemplate="x %{x:.4g}<br>y %{y:.4g}<br>loss %{customdata:.4f}<extra></extra>",
    )  # fmt: skip


def _pins(surface: SurfaceEntry, scale: ScaleEntry) -> list[Any]:
    """Names above the surface: beside their models they would be hidden behind it."""
    from plotly.graph_objects import Scatter3d

    low, high = raised(levels_of(scale)[[0, -1]], scale).tolist()
    found: list[Any] = []
    for number, mark in enumerate(surface.marks):
        beside = sum(_are_near(mark, other, surface) for other in surface.marks[:number])
        top = high + (0.08 + 0.14 * beside) * (high - low)
        foot = float(raised(np.array([mark.loss]), scale)[0])
        name, on = escape(label_of(mark, surface)), lies_on(mark, surface)
        found += [
            Scatter3d(
                x=[mark.x] * 2, y=[mark.y] * 2, z=[foot, top], mode="lines+text", hoverinfo="skip",
                text=["", name], textposition="top center", textfont={"size": 13, "color": INK},
                line={"color": INK, "width": 3, "dash": "solid" if on else "dash"},
            ),
            Scatter3d(
                x=[mark.x], y=[mark.y], z=[foot], mode="markers", hoverinfo="text",
                hovertext=f"{name}<br>loss {mark.loss:.4f}",
                marker={"size": 6, "symbol": "circle" if on else "diamond", "color": PAPER,
                        "line": {"color": INK, "width": 2}},
            ),
        ]  # fmt: skip
    return found


def _are_near(first: MarkEntry, second: MarkEntry, surface: SurfaceEntry) -> bool:
    width, depth = (places[-1] - places[0] for places in (surface.x, surface.y))
    return hypot((first.x - second.x) / width, (first.y - second.y) / depth) < NEAR


def _ticks(levels: Floats, scale: ScaleEntry) -> dict[str, Any]:
    digits = digits_of(levels)
    return {
        "tickvals": raised(levels, scale).tolist(),
        "ticktext": [f"{level:.{digits}f}" for level in levels],
    }


def _scene(surface: SurfaceEntry, scale: ScaleEntry, data: DataEntry | None) -> dict[str, Any]:
    width, depth = (places[-1] - places[0] for places in (surface.x, surface.y))
    longest = max(width, depth)
    ratio = (width / longest, depth / longest) if is_to_scale(surface) else (1.0, 1.0)
    height = {"title": {"text": escape(loss_title(data, scale))}}
    return {
        "xaxis": {"title": {"text": escape(axis_title(surface, 0))}},
        "yaxis": {"title": {"text": escape(axis_title(surface, 1))}},
        "zaxis": height | _ticks(levels_of(scale)[::2], scale),
        "aspectmode": "manual",
        "aspectratio": {"x": ratio[0], "y": ratio[1], "z": 0.55},
        "camera": {"eye": {"x": 0.95, "y": -1.3, "z": 1.15}, "center": {"x": 0, "y": 0, "z": -0.1}},
    }
