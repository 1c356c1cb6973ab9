"""Curves, steps, and planes of points."""

from __future__ import annotations

import math
import textwrap
from html import escape

from mergekit_geo.views import chart
from mergekit_geo.views.plotly_.figure import ABREAST, FEW, Json, axes, figure, texts, titled
from mergekit_geo.views.scatter import MANY, SWARM, Points, ScatterPanel, Scatters, Stairs
from mergekit_geo.views.style import Style, style

CURVES, SMALL = 420, 230
"""Pixels of the height of curves, and of one of several planes of points."""
NARROW = 20
"""Characters of a line below a narrow panel."""


def curves(picture: chart.Lines) -> Json:
    """Losses along paths, with the gaps between curves and chords."""
    traces = [
        trace for number, curve in enumerate(picture.curves) for trace in _curve(curve, number)
    ]
    return figure(traces, CURVES, showlegend=True, **axes(picture.x_title, picture.y_title))


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
            "line": {"color": own.colour, "dash": own.dash, "width": 2},
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


def steps(picture: chart.Distributions) -> Json:
    """Cumulative distributions."""
    traces = [trace for i, step in enumerate(picture.steps) for trace in _stairs(step, style(i))]
    return figure(traces, CURVES, **axes(picture.x_title, picture.y_title))


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


def scatter(panel: ScatterPanel, picture: Scatters) -> Json:
    """One plane of points; it has a legend where it is the only one."""
    alone = len(picture.panels) == 1
    alike = len({each.y_title for each in picture.panels}) == 1
    line = _stairs(panel.stairs, style(0, stands_out=True)) if panel.stairs else []
    many = panel.count >= MANY
    y = titled(panel.y_title) if alone or not alike else {}
    y |= {"zeroline": False, "nticks": 6 if alone else 4}
    y |= {"range": list(panel.span)} if panel.span else {}
    legend = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"}
    return figure(
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
        return x | {"tickvals": places, "ticktext": texts(panel.ticks), "tickangle": angle,
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
    shown: Json = {"mode": f"{drawn}+text", "text": texts(kind.labels),
                   "textposition": "top right", "textfont": {"size": 10}}  # fmt: skip
    return {
        "type": "scatter", "mode": drawn, "name": escape(kind.name), "x": list(kind.x),
        "y": list(kind.y), "hovertext": texts(kind.texts), "hoverinfo": "text",
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
