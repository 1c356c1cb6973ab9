"""Surfaces from above and in three dimensions, with their marks and paths."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from mergekit_geo.views import chart
from mergekit_geo.views.levels import heights, labels_of, levels_of, raised
from mergekit_geo.views.plotly_.figure import (
    INK,
    MUTED,
    PAPER,
    Json,
    axes,
    figure,
    texts,
    titled,
)
from mergekit_geo.views.style import trail_style

SIDE, RELIEF, AROUND = 560, 640, 120
"""Pixels of a surface's height, from above and in three dimensions, and of the colours beside."""
NEAR = 0.15
"""Share of a picture within which names above two marks would cover each other."""


def contours(surface: chart.HeightMap, picture: chart.HeightMaps) -> Json:
    """One surface from above, with its paths and marks."""
    low, high, size = _range(picture)
    sheet = {
        "type": "contour", **_grid(surface, picture), "zmin": low, "zmax": high,
        "line": {"width": 0.5},
        "contours": {"start": low, "end": high, "size": size}, "hoverinfo": "skip",
        "colorbar": _bar(picture) | {"thickness": 12},
    }  # fmt: skip
    marks = {
        "type": "scatter", "mode": "markers+text", "textposition": "top center",
        "text": texts([mark.label for mark in surface.marks]),
        "x": [mark.x for mark in surface.marks], "y": [mark.y for mark in surface.marks],
        "hovertext": [_hover(mark) for mark in surface.marks], "hoverinfo": "text",
        "textfont": {"color": [PAPER if surface.holds(m) else MUTED for m in surface.marks]},
        "marker": {"size": 10, "color": PAPER, "line": {"color": INK, "width": 2}},
    }  # fmt: skip
    sides = axes(surface.x_title, surface.y_title)
    for axis in sides.values():
        axis["constrain"] = "domain"
    if surface.is_to_scale:
        sides["yaxis"] |= {"scaleanchor": "x", "scaleratio": 1}
    width, depth = surface.sides if surface.is_to_scale else (1, 1)
    trails = [trace for i in range(len(surface.trails)) for trace in _trail(i, surface)]
    several = len(surface.trails) > 1
    legend = {"orientation": "h", "x": 0, "y": -0.16, "yanchor": "top"}
    drawn = figure(
        [sheet, *trails, marks | {"showlegend": False}], SIDE, showlegend=several,
        title=_title(surface), legend=legend, **sides,
    )  # fmt: skip
    return drawn | {"aspect": depth / width, "width": round(AROUND + SIDE * width / depth)}


def _trail(number: int, surface: chart.HeightMap) -> list[Json]:
    """A path from above, on paper that lifts it off the surface."""
    trail = surface.trails[number]
    own = trail_style(number)
    line = {
        "type": "scatter", "mode": "lines", "x": list(trail.x), "y": list(trail.y),
        "name": escape(trail.name), "legendgroup": str(number), "hoverinfo": "skip",
    }  # fmt: skip
    paper = {"showlegend": False, "line": {"color": PAPER, "width": 4.5}}
    return [line | paper, line | {"line": {"color": own.colour, "dash": own.dash, "width": 2}}]


def relief(surface: chart.HeightMap, picture: chart.Relief) -> Json:
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
    tracks = [_track(number, surface, picture) for number in range(len(surface.trails))]
    pins = [
        trace for number in range(len(surface.marks)) for trace in _pin(number, surface, picture)
    ]
    return figure(
        [sheet, *tracks, *pins], height=RELIEF, scene=_scene(surface, picture), margin=margin,
        showlegend=False, title=_title(surface),
    )  # fmt: skip


def _track(number: int, surface: chart.HeightMap, picture: chart.Relief) -> Json:
    """A path in three dimensions, at the heights of its points."""
    trail = surface.trails[number]
    own = trail_style(number)
    feet = raised(np.array(trail.heights), picture.scale).tolist()
    return {
        "type": "scatter3d", "mode": "lines", "x": list(trail.x), "y": list(trail.y), "z": feet,
        "name": escape(trail.name), "hoverinfo": "skip",
        "line": {"color": own.colour, "width": 5},
    }  # fmt: skip


def _pin(number: int, surface: chart.HeightMap, picture: chart.Relief) -> list[Json]:
    """A mark's pin, with the name above the surface, which would hide it elsewhere."""
    low, high, _ = _range(picture)
    mark = surface.marks[number]
    labelled = [other for other in surface.marks[:number] if other.label]
    beside = sum(_are_near(mark, other, surface) for other in labelled)
    top = high + (0.08 + 0.14 * beside) * (high - low)
    foot = float(raised(np.array([mark.height]), picture.scale)[0])
    pin: list[Json] = [
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
    return pin if mark.label else pin[1:]


def _are_near(first: chart.Marker, second: chart.Marker, surface: chart.HeightMap) -> bool:
    width, depth = surface.sides
    return math.hypot((first.x - second.x) / width, (first.y - second.y) / depth) < NEAR


def _scene(surface: chart.HeightMap, picture: chart.Relief) -> Json:
    width, depth = surface.sides
    longest = max(width, depth)
    ratio = (width / longest, depth / longest) if surface.is_to_scale else (1.0, 1.0)
    ticks = {"tickvals": raised(levels_of(picture.scale), picture.scale).tolist()[::2]}
    return {
        **axes(surface.x_title, surface.y_title),
        "zaxis": titled(picture.title) | ticks | {"ticktext": labels_of(picture.scale)[::2]},
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
    return f"{escape(mark.told)}<br>loss {mark.height:.4f}"


def _title(surface: chart.HeightMap) -> Json:
    return {"text": escape(surface.title), "x": 0, "font": {"size": 14}}
