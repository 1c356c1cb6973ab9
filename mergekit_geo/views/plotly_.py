"""Pictures as plotly.js takes them on a page: plain data and layout.

Names are escaped: plotly reads markup in every text. Colours of paper, ink and grid come from the
page, which knows whether it is light or dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from mergekit_geo.views import chart
from mergekit_geo.views.levels import heights, labels_of, levels_of, raised

Json = dict[str, Any]

INK, MUTED, PAPER = "#1b1b1b", "#8a8a8a", "#ffffff"
ROW, HEAD = 22, 90
"""Pixels of a row of a matrix, and of what is around the rows."""
FEW, TALL = 12, 40
"""Most rows of a matrix that are tall, and their pixels."""
ABREAST = 3
"""Panels in a row."""
SIDE, RELIEF = 520, 640
"""Pixels of a surface's height, from above and in three dimensions."""
NEAR = 0.15
"""Share of a picture within which names above two marks would cover each other."""


def figures(picture: chart.Picture) -> list[Json]:
    """Figures of a picture: one, or one for each surface."""
    match picture:
        case chart.Lines():
            return [_curves(picture)]
        case chart.Distributions():
            return [_steps(picture)]
        case chart.Bars():
            return [_bars(picture)]
        case chart.Heatmap():
            return [_matrix(picture)]
        case chart.Relief():
            return [_relief(surface, picture) for surface in picture.panels]
        case chart.HeightMaps():
            return [_contours(surface, picture) for surface in picture.panels]


def _curves(picture: chart.Lines) -> Json:
    traces: list[Json] = []
    for colour, curve in zip(chart.colours(len(picture.curves)), picture.curves, strict=True):
        traces += _curve(curve, colour)
    return _figure(traces, xaxis=_titled(picture.x_title), yaxis=_titled(picture.y_title))


def _curve(curve: chart.Line, colour: str) -> list[Json]:
    """The line, its chord, the interval, what stands out."""
    xs, ys = curve.known
    if not xs:
        return []
    name = escape(curve.name)
    trace: Json = {"type": "scatter", "legendgroup": name}
    traces: list[Json] = [
        {
            **trace, "x": xs, "y": ys, "name": name, "mode": "lines+markers",
            "line": {"color": colour}, "marker": {"size": 6},
        },
        {
            **trace, "x": [xs[0], xs[-1]], "y": [ys[0], ys[-1]], "mode": "lines",
            "line": {"color": colour, "dash": "dash", "width": 1},
            "showlegend": False, "hoverinfo": "skip",
        },
    ]  # fmt: skip
    if (found := curve.interval) is not None:
        ends = {"array": [found.high - found.value], "arrayminus": [found.value - found.low]}
        bar = {"type": "data", "symmetric": False, "color": colour, "thickness": 4, "width": 0}
        traces.append({
            **trace, "mode": "markers", "x": [found.x], "y": [found.value], "name": "barrier, 95 %",
            "marker": {"color": colour, "symbol": "line-ew-open", "size": 12},
            "error_y": bar | ends, "showlegend": False,
        })  # fmt: skip
    if curve.star is not None:
        traces.append({
            **trace, "mode": "markers", "x": [curve.star[0]], "y": [curve.star[1]], "name": "taken",
            "marker": {"symbol": "star", "size": 15, "color": chart.COLOURS[4]},
        })  # fmt: skip
    return traces


def _steps(picture: chart.Distributions) -> Json:
    traces = [
        {
            "type": "scatter", "mode": "lines", "name": escape(step.name), "x": list(step.x),
            "y": list(step.y), "line": {"shape": "hv", "color": colour},
        }
        for colour, step in zip(chart.colours(len(picture.steps)), picture.steps, strict=True)
    ]  # fmt: skip
    return _figure(traces, xaxis=_titled(picture.x_title), yaxis=_titled(picture.y_title))


def _bars(picture: chart.Bars) -> Json:
    columns = min(len(picture.panels), ABREAST)
    rows = -(-len(picture.panels) // columns)
    grid = {"rows": rows, "columns": columns, "pattern": "independent", "ygap": 0.6}
    layout: Json = {"grid": grid, "height": rows * (90 + 30 * len(picture.names)) + 40}
    traces = []
    for number, panel in enumerate(picture.panels):
        axis = "" if number == 0 else str(number + 1)
        traces.append(_panel(panel, picture) | {"xaxis": f"x{axis}", "yaxis": f"y{axis}"})
        layout[f"xaxis{axis}"] = {**_titled(panel.title), "nticks": 4}
        layout[f"yaxis{axis}"] = {**_downwards(), "showticklabels": number % columns == 0}
    return _figure(traces, showlegend=False, **layout)


def _panel(panel: chart.Panel, picture: chart.Bars) -> Json:
    bars: Json = {
        "type": "bar", "orientation": "h", "name": escape(panel.title), "x": list(panel.values),
        "y": _texts(picture.names),
        "marker": {"color": [chart.COLOURS[stands_out] for stands_out in picture.outstanding]},
    }  # fmt: skip
    errors = {} if panel.errors is None else {"error_x": {"type": "data", "array": panel.errors}}
    return bars | errors


def _matrix(picture: chart.Heatmap) -> Json:
    count, quantity = len(picture.rows), escape(picture.quantity)
    trace = {
        "type": "heatmap", "x": _texts(picture.columns), "y": _texts(picture.rows),
        "z": [list(row) for row in picture.values], "colorscale": "Viridis",
        "colorbar": {"title": {"text": quantity}, "thickness": 12},
        "hovertemplate": "%{y}<br>%{x}<br>" + quantity + " %{z:.5g}<extra></extra>",
    }  # fmt: skip
    height = HEAD + (TALL if count <= FEW else ROW) * count
    return _figure([trace], height=height, yaxis=_downwards())


def _contours(surface: chart.HeightMap, picture: chart.HeightMaps) -> Json:
    low, high, size = _range(picture)
    contours = {
        "type": "contour", **_grid(surface, picture), "zmin": low, "zmax": high,
        "line": {"width": 0.5},
        "contours": {"start": low, "end": high, "size": size}, "hoverinfo": "skip",
        "colorbar": _bar(picture) | {"thickness": 12},
    }  # fmt: skip
    marks = {
        "type": "scatter", "mode": "markers+text", "textposition": "top center",
        "text": _texts([mark.label for mark in surface.marks]),
        "x": [mark.x for mark in surface.marks], "y": [mark.y for mark in surface.marks],
        "hovertext": [_hover(mark) for mark in surface.marks], "hoverinfo": "text",
        "textfont": {"color": PAPER},
        "marker": {"size": 10, "color": PAPER, "line": {"color": INK, "width": 2}},
    }  # fmt: skip
    axes = {"xaxis": _titled(surface.x_title), "yaxis": _titled(surface.y_title)}
    return _figure([contours, marks], height=SIDE, showlegend=False, title=_title(surface), **axes)


def _relief(surface: chart.HeightMap, picture: chart.Relief) -> Json:
    """One surface in three dimensions, with a pin at every mark, down to its own height."""
    low, high, size = _range(picture)
    lines = {"show": True, "color": PAPER, "width": 1, "highlight": False, "size": size}
    sheet = {
        "type": "surface", **_grid(surface, picture), "customdata": surface.heights,
        "cmin": low, "cmax": high,
        "colorbar": _bar(picture) | {"len": 0.75, "thickness": 14},
        "contours": {"z": lines | {"start": low, "end": high}},
        "hovertemplate": "x %{x:.4g}<br>y %{y:.4g}<br>loss %{customdata:.4f}<extra></extra>",
    }  # fmt: skip
    margin = dict.fromkeys("lrb", 0) | {"t": 40}
    pins = [
        trace for number in range(len(surface.marks)) for trace in _pin(number, surface, picture)
    ]
    return _figure(
        [sheet, *pins], height=RELIEF, scene=_scene(surface, picture), margin=margin,
        showlegend=False, title=_title(surface),
    )  # fmt: skip


def _pin(number: int, surface: chart.HeightMap, picture: chart.Relief) -> list[Json]:
    """A mark's pin, with the name above the surface, which would hide it elsewhere."""
    low, high, _ = _range(picture)
    mark = surface.marks[number]
    beside = sum(_are_near(mark, other, surface) for other in surface.marks[:number])
    top = high + (0.08 + 0.14 * beside) * (high - low)
    foot = float(raised(np.array([mark.height]), picture.scale)[0])
    return [
        {
            "type": "scatter3d", "x": [mark.x] * 2, "y": [mark.y] * 2, "z": [foot, top],
            "mode": "lines+text", "hoverinfo": "skip", "text": ["", escape(mark.label)],
            "textposition": "top center", "textfont": {"size": 13},
            "line": {"color": MUTED, "width": 3, "dash": "solid" if mark.on else "dash"},
        },
        {
            "type": "scatter3d", "x": [mark.x], "y": [mark.y], "z": [foot], "mode": "markers",
            "hoverinfo": "text", "hovertext": _hover(mark),
            "marker": {"size": 6, "symbol": "circle" if mark.on else "diamond", "color": PAPER,
                       "line": {"color": INK, "width": 2}},
        },
    ]  # fmt: skip


def _are_near(first: chart.Marker, second: chart.Marker, surface: chart.HeightMap) -> bool:
    width, depth = surface.sides
    return math.hypot((first.x - second.x) / width, (first.y - second.y) / depth) < NEAR


def _scene(surface: chart.HeightMap, picture: chart.Relief) -> Json:
    width, depth = surface.sides
    longest = max(width, depth)
    ratio = (width / longest, depth / longest) if surface.is_to_scale else (1.0, 1.0)
    ticks = {"tickvals": raised(levels_of(picture.scale), picture.scale).tolist()[::2]}
    return {
        "xaxis": _titled(surface.x_title),
        "yaxis": _titled(surface.y_title),
        "zaxis": _titled(picture.title) | ticks | {"ticktext": labels_of(picture.scale)[::2]},
        "aspectmode": "manual",
        "aspectratio": {"x": ratio[0], "y": ratio[1], "z": 0.55},
        "camera": {"eye": {"x": 0.95, "y": -1.3, "z": 1.15}, "center": {"x": 0, "y": 0, "z": -0.1}},
    }


def _range(picture: chart.HeightMaps) -> tuple[float, float, float]:
    """Ends of the drawn scale, and the height between two levels."""
    drawn = raised(levels_of(picture.scale), picture.scale).tolist()
    return drawn[0], drawn[-1], (drawn[-1] - drawn[0]) / (len(drawn) - 1)


def _bar(picture: chart.HeightMaps) -> Json:
    return {
        "title": {"text": escape(picture.title), "side": "right"},
        "tickvals": raised(levels_of(picture.scale), picture.scale).tolist(),
        "ticktext": labels_of(picture.scale),
    }


def _grid(surface: chart.HeightMap, picture: chart.HeightMaps) -> Json:
    """Heights as they are drawn; null where one is not a number."""
    drawn = raised(heights(surface), picture.scale).tolist()
    z = [[None if math.isnan(x) else x for x in row] for row in drawn]
    return {"x": surface.x, "y": surface.y, "z": z, "colorscale": "Viridis"}


def _hover(mark: chart.Marker) -> str:
    return f"{escape(mark.label)}<br>loss {mark.height:.4f}"


def _titled(words: str) -> Json:
    return {"title": {"text": escape(words)}}


def _title(surface: chart.HeightMap) -> Json:
    return {"text": escape(surface.title), "x": 0, "font": {"size": 14}}


def _downwards() -> Json:
    return {"autorange": "reversed", "automargin": True, "type": "category"}


def _figure(traces: Sequence[Json], height: int = 380, **layout: Any) -> Json:
    return {"data": list(traces), "layout": {"height": height, **layout}}


def _texts(names: Sequence[str]) -> list[str]:
    return [escape(name) for name in names]
