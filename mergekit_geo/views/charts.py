"""Interactive pictures of a report, as plotly.js takes them: plain data and layout.

Names are escaped: plotly reads markup in every text. Colours of paper, ink and grid come from the
page, which knows whether it is light or dark.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from mergekit_geo.records.barrier import BarrierEntry, BarrierMeasurements
from mergekit_geo.records.curvature import SharpnessEntry
from mergekit_geo.records.model import Geometry
from mergekit_geo.views.measures import MEASURES, Measure
from mergekit_geo.views.palette import COLOURS, colours, short_name
from mergekit_geo.views.tables import loss_axis

Chart = dict[str, Any]

ROW, HEAD = 22, 90
"""Pixels of a row of a heat map, and of what is around the rows."""


def barrier_chart(entries: Sequence[BarrierEntry]) -> Chart:
    """Loss along every path, the chord between its ends, the barrier's interval, what was taken."""
    traces: list[Chart] = []
    for colour, entry in zip(colours(len(entries)), entries, strict=True):
        traces += _curve(entry, colour)
    return _chart(
        traces, xaxis={"title": {"text": "t"}}, yaxis={"title": {"text": loss_axis(entries)}}
    )


def matrix_chart(measured: BarrierMeasurements) -> Chart:
    """Barrier of every pair of models."""
    names = [_text(entry.model) for entry in measured.losses]
    trace = _heat(names, names, measured.matrix, "barrier", "YlOrRd")
    return _chart([trace], height=HEAD + 40 * len(names), yaxis=_downwards())


def sharpness_chart(entries: Sequence[SharpnessEntry]) -> Chart:
    """Every measure that all models have, side by side: bars, with errors where they are known."""
    shown = [m for m in MEASURES if all(m.value(entry) is not None for entry in entries)]
    columns = min(len(shown), 3)
    rows = -(-len(shown) // columns)
    layout: Chart = {
        "grid": {"rows": rows, "columns": columns, "pattern": "independent", "ygap": 0.6}
    }
    traces = []
    for number, measure in enumerate(shown, start=1):
        own = "" if number == 1 else str(number)
        traces.append(_bars(entries, measure, own))
        layout[f"xaxis{own}"] = {"title": {"text": measure.title}, "nticks": 4}
        layout[f"yaxis{own}"] = {
            **_downwards(), "showticklabels": number % columns == 1 or columns == 1,
        }  # fmt: skip
    height = rows * (90 + 30 * len(entries)) + 40
    return _chart(traces, height=height, showlegend=False, **layout)


def spectrum_chart(entries: Sequence[SharpnessEntry]) -> Chart:
    """Share of the eigenvalues up to each value."""
    traces = [
        {
            "type": "scatter", "mode": "lines", "name": _text(entry.model),
            "x": entry.spectrum.eigenvalues, "y": entry.spectrum.cumulative,
            "line": {"shape": "hv", "color": colour},
        }
        for colour, entry in zip(colours(len(entries)), entries, strict=True)
        if entry.spectrum is not None
    ]  # fmt: skip
    return _chart(
        traces,
        xaxis={"title": {"text": "eigenvalue of the Hessian"}},
        yaxis={"title": {"text": "share of eigenvalues up to it"}},
    )


def geometry_chart(geometry: Geometry, names: Sequence[str], quantity: str) -> Chart:
    """Cosine or relative distance of every pair of models, layer by layer.

    Args:
        geometry: Of the models.
        names: Of the models.
        quantity: `cosine`, or `distance`: over the mean of the two norms, so that layers compare.
    """
    layers = geometry.layers
    pairs = [f"{_text(names[p.first])} · {_text(names[p.second])}" for p in layers[0].pairs]
    values = [
        [
            pair.cosine
            if quantity == "cosine"
            else _relative(pair.distance, layer.norms[pair.first], layer.norms[pair.second])
            for pair in layer.pairs
        ]
        for layer in layers
    ]
    scale = "Viridis" if quantity == "cosine" else "Cividis"
    trace = _heat(pairs, [_text(layer.layer) for layer in layers], values, quantity, scale)
    return _chart([trace], height=HEAD + ROW * len(layers), yaxis=_downwards())


def _relative(distance: float, first: float, second: float) -> float | None:
    return 2 * distance / (first + second) if first + second > 0 else None


def _curve(entry: BarrierEntry, colour: str) -> list[Chart]:
    known = [(t, x) for t, x in zip(entry.t, entry.loss, strict=True) if x is not None]
    if not known:
        return []
    ts, losses = (list(column) for column in zip(*known, strict=True))
    name = f"{_text(entry.first)} to {_text(entry.second)}, {_text(entry.along)}"
    line: Chart = {"type": "scatter", "x": ts, "y": losses, "name": name, "legendgroup": name}
    chord: Chart = {"x": [ts[0], ts[-1]], "y": [losses[0], losses[-1]], "legendgroup": name}
    hidden: Chart = {"showlegend": False, "hoverinfo": "skip"}
    found: list[Chart] = [
        {**line, "mode": "lines+markers", "line": {"color": colour}, "marker": {"size": 6}},
        {
            "type": "scatter", **chord, **hidden, "mode": "lines",
            "line": {"color": colour, "dash": "dash", "width": 1},
        },
    ]  # fmt: skip
    return [*found, *_interval(entry, losses, colour, name), *_taken(entry, dict(known), name)]


def _interval(entry: BarrierEntry, losses: Sequence[float], colour: str, group: str) -> list[Chart]:
    """The barrier at its place, with its ends, above the chord."""
    height, t = entry.barrier, entry.t_max
    if height.value is None or height.low is None or height.high is None or t is None:
        return []
    chord = (1 - t) * losses[0] + t * losses[-1]
    return [
        {
            "type": "scatter", "mode": "markers", "x": [t], "y": [chord + height.value],
            "marker": {"color": colour, "symbol": "line-ew-open", "size": 12},
            "error_y": {
                "type": "data", "symmetric": False, "color": colour, "thickness": 4, "width": 0,
                "array": [height.high - height.value], "arrayminus": [height.value - height.low],
            },
            "legendgroup": group, "showlegend": False, "name": "barrier, 95 %",
        }
    ]  # fmt: skip


def _taken(entry: BarrierEntry, losses: dict[float, float], group: str) -> list[Chart]:
    if entry.taken is None or entry.taken not in losses:
        return []
    return [
        {
            "type": "scatter", "mode": "markers", "x": [entry.taken], "y": [losses[entry.taken]],
            "marker": {"symbol": "star", "size": 15, "color": COLOURS[4]}, "name": "taken",
            "legendgroup": group,
        }
    ]  # fmt: skip


def _bars(entries: Sequence[SharpnessEntry], measure: Measure, axis: str) -> Chart:
    errors = [measure.error(entry) for entry in entries]
    bars: Chart = {
        "type": "bar", "orientation": "h", "name": measure.title,
        "x": [measure.value(entry) for entry in entries],
        "y": [_text(entry.model) for entry in entries],
        "xaxis": f"x{axis}", "yaxis": f"y{axis}",
        "marker": {"color": [COLOURS[entry.role == "output"] for entry in entries]},
    }  # fmt: skip
    if all(error is not None for error in errors):
        bars["error_x"] = {"type": "data", "array": errors}
    return bars


def _heat(
    columns: Sequence[str],
    rows: Sequence[str],
    values: Sequence[Sequence[float | None]],
    title: str,
    scale: str,
) -> Chart:
    return {
        "type": "heatmap", "x": list(columns), "y": list(rows), "z": [list(r) for r in values],
        "colorscale": scale, "colorbar": {"title": {"text": title}, "thickness": 12},
        "hovertemplate": "%{y}<br>%{x}<br>" + title + " %{z:.5g}<extra></extra>",
    }  # fmt: skip


def _downwards() -> Chart:
    return {"autorange": "reversed", "automargin": True, "type": "category"}


def _chart(traces: Sequence[Chart], height: int = 380, **layout: Any) -> Chart:
    return {"data": list(traces), "layout": {"height": height, **layout}}


def _text(name: str) -> str:
    """A model's own name, without power over the picture."""
    return html.escape(short_name(name))
