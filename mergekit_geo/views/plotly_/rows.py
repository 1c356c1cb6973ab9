"""Dots, bars and cells in rows that have names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from mergekit_geo.views import chart
from mergekit_geo.views.plotly_.figure import ABREAST, FEW, MUTED, Json, figure, texts, titled
from mergekit_geo.views.style import Style, style

FAINT = "rgba(128, 128, 128, 0.18)"
ROW, MODEL, ROWS, HEAD = 22, 30, 40, 80
"""Pixels of a row of a long matrix, of dots and of bars, and of what is around rows."""
TALL, WIDE = 56, 96
"""Pixels of the cells of a small matrix."""


def dots(panel: chart.Panel, picture: chart.Dots) -> Json:
    """A forest plot."""
    count = len(picture.names)
    most = 5 if len(picture.panels) <= ABREAST else 3
    x = titled(panel.title) | {"nticks": most, "tickangle": 0, "zeroline": False}
    traces = [
        _dot(i, dot, own)
        for i, (dot, own) in enumerate(zip(panel.dots, picture.styles_in(panel), strict=True))
        if dot is not None
    ]
    shapes = [*_band(panel), *_reference(panel)]
    height = HEAD + MODEL * count
    names = _named(picture.names)
    return figure(traces, height, xaxis=x, yaxis=names, shapes=shapes, showlegend=False)


def _named(rows: Sequence[str]) -> Json:
    """An axis of names, which stand at whole numbers, since two may be the same."""
    count = len(rows)
    return {
        "tickvals": list(range(count)), "ticktext": texts(rows), "zeroline": False,
        "range": [count - 0.5, -0.5], "automargin": True, "showgrid": False,
    }  # fmt: skip


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
    place = _across_all(*panel.band)
    return [{"type": "rect", **place, "layer": "below", "line": {"width": 0}, "fillcolor": FAINT}]


def _reference(panel: chart.Panel) -> list[Json]:
    """A line across all names."""
    if panel.reference is None:
        return []
    place = _across_all(panel.reference, panel.reference)
    return [{"type": "line", **place, "line": {"color": MUTED, "width": 1.5, "dash": "dot"}}]


def _across_all(low: float, high: float) -> Json:
    return {"x0": low, "x1": high, "y0": 0, "y1": 1, "yref": "paper"}


def bars(panel: chart.BarPanel, picture: chart.Bars) -> Json:
    """Bars of one panel."""
    count = len(picture.rows)
    more = {"nticks": 5, "tickangle": 0, "zeroline": True, "range": _reach(panel)}
    traces = [one for i, name in enumerate(picture.series) for one in _series(panel, i, name)]
    legend = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "traceorder": "normal"}
    several = len(picture.series) > 1
    return figure(
        traces, HEAD + TALL * several + ROWS * count, xaxis=titled(panel.title) | more,
        yaxis=_named(picture.rows), legend=legend, barmode="overlay", showlegend=several,
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


def matrix(picture: chart.Heatmap) -> Json:
    """Cells by size, with their numbers in them."""
    rows, columns, quantity = len(picture.rows), len(picture.columns), escape(picture.quantity)
    place = [math.log10(end) if picture.log else end for end in picture.ends]
    shades = [[i / (len(chart.HEAT) - 1), shade] for i, shade in enumerate(chart.HEAT)]
    told = [[chart.number(value, ".3g") for value in row] for row in picture.values]
    trace = {
        "type": "heatmap", "x": list(range(columns)), "y": list(range(rows)),
        "z": [[_drawn(value, picture) for value in row] for row in picture.values],
        "zmin": place[0], "zmax": place[1], "colorscale": shades, "showscale": False,
        "text": told, "texttemplate": "%{text}", "xgap": 2, "ygap": 2, "hoverongaps": False,
        "hovertemplate": quantity + " %{text}<extra></extra>",
    }  # fmt: skip
    plain = {"zeroline": False, "showgrid": False, "automargin": True, "ticks": ""}
    x = plain | {
        "tickvals": trace["x"],
        "ticktext": texts(picture.columns),
        "title": {"text": quantity},
    }
    y = plain | {"tickvals": trace["y"], "ticktext": texts(picture.rows), "autorange": "reversed"}
    height = HEAD + (TALL if rows <= FEW else ROW) * rows
    return figure([trace], height, xaxis=x, yaxis=y) | {"width": 220 + WIDE * columns}


def _drawn(value: float | None, picture: chart.Heatmap) -> float | None:
    """A number as it is coloured."""
    if value is None or not picture.log:
        return value
    return math.log10(value) if value > 0 else None
