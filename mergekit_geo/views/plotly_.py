"""Pictures as plotly.js takes them on a page: plain data and layout.

Names are escaped: plotly reads markup in every text. Colours of paper, ink and grid come from the
page, which knows whether it is light or dark.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from mergekit_geo.views import chart
from mergekit_geo.views.levels import heights, labels_of, levels_of, raised
from mergekit_geo.views.scatter import MANY, SWARM, Points, ScatterPanel, Scatters, Stairs
from mergekit_geo.views.style import Style, style, trail_style

Json = dict[str, Any]

INK, MUTED, PAPER = "#1b1b1b", "#8a8a8a", "#ffffff"
FAINT = "rgba(128, 128, 128, 0.18)"
CURVES, SMALL = 420, 230
"""Pixels of the height of curves, and of one of several planes of points."""
ROW, MODEL, ROWS, HEAD = 22, 30, 40, 80
"""Pixels of a row of a long matrix, of dots and of bars, and of what is around rows."""
FEW, TALL, WIDE = 12, 56, 96
"""Most rows of a matrix that are tall, and the pixels of their cells."""
SIDE, RELIEF, AROUND = 560, 640, 120
"""Pixels of a surface's height, from above and in three dimensions, and of the colours beside."""
NARROW = 20
"""Characters of a line below a narrow panel."""
ABREAST = 3
"""Most panels that have room for several ticks."""
NEAR = 0.15
"""Share of a picture within which names above two marks would cover each other."""


def figures(picture: chart.Picture) -> list[Json]:
    """Figures of a picture: one, or one for each panel; `width` is the most that one takes."""
    match picture:
        case chart.Lines() | chart.Distributions() | chart.Heatmap():
            return [_whole(picture)]
        case chart.Dots():
            return [_dots(panel, picture) for panel in picture.panels]
        case chart.Bars():
            return [_bars(panel, picture) for panel in picture.panels]
        case chart.Relief():
            return [_relief(surface, picture) for surface in picture.panels]
        case chart.HeightMaps():
            return [_contours(surface, picture) for surface in picture.panels]
        case Scatters():
            alike = len({panel.y_title for panel in picture.panels}) == 1
            alone = len(picture.panels) == 1
            return [_scatter(p, alone=alone, titled=alone or not alike) for p in picture.panels]


def _whole(picture: chart.Lines | chart.Distributions | chart.Heatmap) -> Json:
    """A picture without panels."""
    match picture:
        case chart.Lines():
            return _curves(picture)
        case chart.Distributions():
            return _steps(picture)
        case chart.Heatmap():
            return _matrix(picture)


def _curves(picture: chart.Lines) -> Json:
    traces = [
        trace for number, curve in enumerate(picture.curves) for trace in _curve(curve, number)
    ]
    axes = {"xaxis": _titled(picture.x_title), "yaxis": _titled(picture.y_title)}
    return _figure(traces, CURVES, showlegend=True, **axes)


def _curve(curve: chart.Line, number: int) -> list[Json]:
    """The line, its chord, the gap between them, and the output on it."""
    xs, ys = curve.known
    if not xs:
        return []
    own, name = style(number), escape(curve.name)
    beside: Json = {"type": "scatter", "legendgroup": name, "showlegend": False}
    traces: list[Json] = [
        {
            **beside, "x": xs, "y": ys, "name": name, "showlegend": True,
            "line": _stroke(number) | {"width": 2},
            "mode": "lines+markers" if curve.is_traced else "markers",
            "marker": {"size": 8, "symbol": own.marker, "color": own.colour},
        },
        {
            **beside, "x": [xs[0], xs[-1]], "y": [ys[0], ys[-1]], "mode": "lines",
            "line": {"color": own.colour, "dash": "dot", "width": 1.2}, "hoverinfo": "skip",
        },
    ]  # fmt: skip
    if curve.gap is not None:
        traces += [beside | trace for trace in _gap(curve.gap, number)]
    if curve.star is not None:
        out = style(0, stands_out=True)
        traces.append({
            **beside, "mode": "markers", "x": [curve.star[0]], "y": [curve.star[1]],
            "name": "output", "marker": {"symbol": out.marker, "size": 16, "color": out.colour},
        })  # fmt: skip
    return traces


def _gap(gap: chart.Gap, number: int) -> list[Json]:
    """A bracket from the chord to the curve, and the interval of its height as a broad bar."""
    colour = style(number).colour
    ends = {"array": [gap.high - gap.height], "arrayminus": [gap.height - gap.low]}
    bar = {"type": "data", "symmetric": False, "color": f"{colour}55", "thickness": 7, "width": 0}
    top, side = gap.foot + gap.height, "left" if gap.left else "right"
    return [
        {
            "mode": "lines+markers", "x": [gap.x] * 2, "y": [gap.foot, top], "hoverinfo": "skip",
            "line": {"color": colour, "width": 2},
            "marker": {"color": colour, "symbol": "line-ew-open", "size": 14},
        },
        {
            "mode": "text", "x": [gap.x], "y": [gap.label_height],
            "text": [f"\u2002{escape(gap.label)}\u2002"], "textposition": f"middle {side}",
        },
        {
            "mode": "markers", "x": [gap.x], "y": [top], "error_y": bar | ends,
            "marker": {"color": colour, "size": 1}, "hoverinfo": "skip",
        },
    ]  # fmt: skip


def _steps(picture: chart.Distributions) -> Json:
    traces = [trace for i, step in enumerate(picture.steps) for trace in _stairs(step, style(i))]
    axes = {"xaxis": _titled(picture.x_title), "yaxis": _titled(picture.y_title)}
    return _figure(traces, CURVES, **axes)


def _stairs(step: Stairs, own: Style) -> list[Json]:
    """The line, above its band."""
    name, places = escape(step.name), list(step.x)
    ends: Json = {
        "type": "scatter", "mode": "lines", "x": places, "hoverinfo": "skip", "showlegend": False,
        "legendgroup": name, "line": {"shape": "hv", "width": 0, "color": own.colour},
    }  # fmt: skip
    low, high = step.band or ((), ())
    filled = {"fill": "tonexty", "fillcolor": f"{own.colour}33"}
    band = [ends | {"y": list(low)}, ends | filled | {"y": list(high)}] if step.band else []
    line = {
        "type": "scatter", "mode": "lines", "name": name, "legendgroup": name, "x": places,
        "y": list(step.y), "line": {"color": own.colour, "dash": own.dash, "shape": "hv"},
    }  # fmt: skip
    return [*band, line]


def _scatter(panel: ScatterPanel, *, alone: bool, titled: bool) -> Json:
    """One plane of points; it has a legend where it is the only one."""
    line = _stairs(panel.stairs, style(0, stands_out=True)) if panel.stairs else []
    many = panel.count >= MANY
    y = (_titled(panel.y_title) if titled else {}) | {
        "zeroline": False,
        "nticks": 6 if alone else 4,
    }
    y |= {"range": list(panel.span)} if panel.span else {}
    legend = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"}
    return _figure(
        [*line, *(_points(kind, many) for kind in panel.points)], CURVES if alone else SMALL,
        xaxis=_across(panel, alone=alone), yaxis=y, showlegend=alone, legend=legend,
    )  # fmt: skip


def _across(panel: ScatterPanel, *, alone: bool) -> Json:
    """The axis of x, with as many ticks as have room."""
    lines = [panel.x_title] if alone else textwrap.wrap(panel.x_title, NARROW)
    x: Json = {"title": {"text": "<br>".join(map(escape, lines)), "font": {"size": 12}},
               "zeroline": False, "tickangle": 0}  # fmt: skip
    if panel.ticks:
        places = list(range(len(panel.ticks)))
        angle = 0 if len(places) <= ABREAST else -40
        return x | {"tickvals": places, "ticktext": _texts(panel.ticks), "tickangle": angle,
                    "range": [-0.6, len(places) - 0.4]}  # fmt: skip
    if panel.width is not None:
        low, high = map(math.log10, panel.width) if panel.log else panel.width
        x |= {"range": [low - 0.06 * (high - low), high + 0.06 * (high - low)]}
    if panel.log:
        ticks = panel.decades
        x |= {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:.2g}" for tick in ticks]}
    elif panel.counts and all(max(kind.x, default=0) <= FEW for kind in panel.points):
        x |= {"dtick": 1}
    return x | ({} if alone else {"nticks": 4})


def _points(kind: Points, many: bool) -> Json:
    """Points of one kind, with what stands beside them."""
    own, is_small = kind.style, many and len(kind.x) >= SWARM
    size = 15 if own.marker == "star" else 5 if is_small else 8
    drawn = "lines+markers" if kind.joined else "markers"
    shown: Json = {"mode": f"{drawn}+text", "text": _texts(kind.labels),
                   "textposition": "top right", "textfont": {"size": 10}}  # fmt: skip
    return {
        "type": "scatter", "mode": drawn, "name": escape(kind.name), "x": list(kind.x),
        "y": list(kind.y), "hovertext": _texts(kind.texts), "hoverinfo": "text",
        "marker": {"color": own.colour, "symbol": own.marker, "size": size,
                   "opacity": 0.5 if is_small else 0.85},
        **({"line": {"color": own.colour, "dash": own.dash}} if kind.joined else {}),
        **({"error_y": _arms(kind)} if kind.arms else {}),
        **(shown if kind.labels else {}),
    }  # fmt: skip


def _arms(kind: Points) -> Json:
    """Intervals of the heights of points."""
    below, above = zip(*kind.arms, strict=True)
    return {"type": "data", "symmetric": False, "array": list(above), "arrayminus": list(below),
            "thickness": 1.2, "width": 3}  # fmt: skip


def _stroke(number: int) -> Json:
    own = style(number)
    return {"color": own.colour, "dash": own.dash}


def _dots(panel: chart.Panel, picture: chart.Dots) -> Json:
    """A forest plot; names stand at whole numbers, since two may be the same."""
    count = len(picture.names)
    y = {
        "tickvals": list(range(count)), "ticktext": _texts(picture.names), "zeroline": False,
        "range": [count - 0.5, -0.5], "automargin": True, "showgrid": False,
    }  # fmt: skip
    most = 5 if len(picture.panels) <= ABREAST else 3
    x = _titled(panel.title) | {"nticks": most, "tickangle": 0, "zeroline": False}
    traces = [
        _dot(i, dot, own)
        for i, (dot, own) in enumerate(zip(panel.dots, picture.styles_in(panel), strict=True))
        if dot is not None
    ]
    shapes = [*_band(panel), *_reference(panel)]
    height = HEAD + MODEL * count
    return _figure(traces, height, xaxis=x, yaxis=y, shapes=shapes, showlegend=False)


def _dot(place: int, dot: chart.Dot, own: Style) -> Json:
    bar: Json = {
        "type": "data",
        "symmetric": False,
        "color": own.colour,
        "thickness": 2,
        "width": 0,
    }
    if dot.low is not None and dot.high is not None:
        bar |= {"array": [dot.high - dot.value], "arrayminus": [dot.value - dot.low]}
    return {
        "type": "scatter", "mode": "markers", "x": [dot.value], "y": [place], "error_x": bar,
        "marker": {"color": own.colour, "symbol": own.marker,
                   "size": 14 if own.marker == "star" else 9},
        "hovertext": dot.text, "hoverinfo": "text",
    }  # fmt: skip


def _band(panel: chart.Panel) -> list[Json]:
    """A shaded range across all names."""
    if panel.band is None:
        return []
    place = {"x0": panel.band[0], "x1": panel.band[1], "y0": 0, "y1": 1, "yref": "paper"}
    return [{"type": "rect", **place, "layer": "below", "line": {"width": 0}, "fillcolor": FAINT}]


def _reference(panel: chart.Panel) -> list[Json]:
    """A line across all names."""
    if panel.reference is None:
        return []
    place = {"x0": panel.reference, "x1": panel.reference, "y0": 0, "y1": 1, "yref": "paper"}
    return [{"type": "line", **place, "line": {"color": MUTED, "width": 1.5, "dash": "dot"}}]


def _bars(panel: chart.BarPanel, picture: chart.Bars) -> Json:
    """Bars of one panel; rows stand at whole numbers, since two may have one name."""
    count = len(picture.rows)
    y = {
        "tickvals": list(range(count)), "ticktext": _texts(picture.rows), "zeroline": False,
        "range": [count - 0.5, -0.5], "automargin": True, "showgrid": False,
    }  # fmt: skip
    more = {"nticks": 5, "tickangle": 0, "zeroline": True, "range": _reach(panel)}
    traces = [one for i, name in enumerate(picture.series) for one in _series(panel, i, name)]
    legend = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "traceorder": "normal"}
    several = len(picture.series) > 1
    return _figure(
        traces, HEAD + TALL * several + ROWS * count, xaxis=_titled(panel.title) | more, yaxis=y,
        legend=legend, barmode="overlay", showlegend=several,
    )  # fmt: skip


def _reach(panel: chart.BarPanel) -> list[float]:
    """Ends of an axis with room for labels beyond the intervals."""
    ends = [end for bars in panel.bars for dot in bars if dot for end in (*dot.ends, 0.0)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = 0.22 * (high - low)
    return [low - (room if low < 0 else 0.0), high + room]


def _series(panel: chart.BarPanel, number: int, name: str) -> list[Json]:
    """The bars of one series with their intervals, and the labels beyond these."""
    found = [(i, dot) for i, dot in enumerate(panel.bars[number]) if dot is not None]
    width = chart.BROAD / len(panel.bars)
    shift = width * (number - (len(panel.bars) - 1) / 2)
    interval = {
        "type": "data", "symmetric": False, "thickness": 1.2, "width": 0, "color": MUTED,
        "array": [dot.ends[1] - dot.value for _, dot in found],
        "arrayminus": [dot.value - dot.ends[0] for _, dot in found],
    }  # fmt: skip
    bars = {
        "type": "bar", "orientation": "h", "name": escape(name), "error_x": interval,
        "x": [dot.value for _, dot in found], "y": [i for i, _ in found],
        "width": 0.9 * width, "offset": shift - 0.45 * width,
        "marker": {"color": style(number).colour},
        "hovertext": [dot.text for _, dot in found], "hoverinfo": "text",
    }  # fmt: skip
    labels = {
        "type": "scatter", "mode": "text", "showlegend": False, "hoverinfo": "skip",
        "x": [dot.ends[dot.value >= 0] for _, dot in found], "y": [i + shift for i, _ in found],
        "text": [f"\u2002{escape(panel.labels[number][i])}\u2002" for i, _ in found],
        "textposition": [f"middle {'right' if dot.value >= 0 else 'left'}" for _, dot in found],
        "textfont": {"size": 11}, "cliponaxis": False,
    }  # fmt: skip
    return [bars, labels]


def _matrix(picture: chart.Heatmap) -> Json:
    """Cells by size, with their numbers in them."""
    rows, columns, quantity = len(picture.rows), len(picture.columns), escape(picture.quantity)
    place = [math.log10(end) if picture.log else end for end in picture.ends]
    shades = [[i / (len(chart.HEAT) - 1), shade] for i, shade in enumerate(chart.HEAT)]
    texts = [[chart.number(value, ".3g") for value in row] for row in picture.values]
    trace = {
        "type": "heatmap", "x": list(range(columns)), "y": list(range(rows)),
        "z": [[_drawn(value, picture) for value in row] for row in picture.values],
        "zmin": place[0], "zmax": place[1], "colorscale": shades, "showscale": False,
        "text": texts, "texttemplate": "%{text}", "xgap": 2, "ygap": 2, "hoverongaps": False,
        "hovertemplate": quantity + " %{text}<extra></extra>",
    }  # fmt: skip
    plain = {"zeroline": False, "showgrid": False, "automargin": True, "ticks": ""}
    x = plain | {
        "tickvals": trace["x"],
        "ticktext": _texts(picture.columns),
        "title": {"text": quantity},
    }
    y = plain | {"tickvals": trace["y"], "ticktext": _texts(picture.rows), "autorange": "reversed"}
    height = HEAD + (TALL if rows <= FEW else ROW) * rows
    return _figure([trace], height, xaxis=x, yaxis=y) | {"width": 220 + WIDE * columns}


def _drawn(value: float | None, picture: chart.Heatmap) -> float | None:
    """A number as it is coloured."""
    if value is None or not picture.log:
        return value
    return math.log10(value) if value > 0 else None


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
        "textfont": {"color": [PAPER if surface.holds(m) else MUTED for m in surface.marks]},
        "marker": {"size": 10, "color": PAPER, "line": {"color": INK, "width": 2}},
    }  # fmt: skip
    axes = {"xaxis": _titled(surface.x_title), "yaxis": _titled(surface.y_title)}
    for axis in axes.values():
        axis["constrain"] = "domain"
    if surface.is_to_scale:
        axes["yaxis"] |= {"scaleanchor": "x", "scaleratio": 1}
    width, depth = surface.sides if surface.is_to_scale else (1, 1)
    trails = [trace for i in range(len(surface.trails)) for trace in _trail(i, surface)]
    several = len(surface.trails) > 1
    legend = {"orientation": "h", "x": 0, "y": -0.16, "yanchor": "top"}
    figure = _figure(
        [contours, *trails, marks | {"showlegend": False}], SIDE, showlegend=several,
        title=_title(surface), legend=legend, **axes,
    )  # fmt: skip
    return figure | {"aspect": depth / width, "width": round(AROUND + SIDE * width / depth)}


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
    tracks = [_track(number, surface, picture) for number in range(len(surface.trails))]
    pins = [
        trace for number in range(len(surface.marks)) for trace in _pin(number, surface, picture)
    ]
    return _figure(
        [sheet, *tracks, *pins], height=RELIEF, scene=_scene(surface, picture), margin=margin,
        showlegend=False, title=_title(surface),
    )  # fmt: skip


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
    return f"{escape(mark.told)}<br>loss {mark.height:.4f}"


def _titled(words: str) -> Json:
    return {"title": {"text": escape(words)}}


def _title(surface: chart.HeightMap) -> Json:
    return {"text": escape(surface.title), "x": 0, "font": {"size": 14}}


def _figure(traces: Sequence[Json], height: int = 380, **layout: Any) -> Json:
    return {"data": list(traces), "layout": {"height": height, **layout}}


def _texts(names: Sequence[str]) -> list[str]:
    return [escape(name) for name in names]
