"""The value of trials against every number of the recipe, one picture each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mergekit_geo.records.search import DimensionEntry, SearchEntry, TrialEntry
from mergekit_geo.views.block import Block, Chart, Folded
from mergekit_geo.views.chart import label, number
from mergekit_geo.views.scatter import Points, ScatterPanel, Scatters
from mergekit_geo.views.search_charts import (
    EVERYWHERE,
    SHOWN,
    Span,
    bounds,
    kinds_of,
    points_of,
    values_of,
)
from mergekit_geo.views.search_trials import cell, is_plain, value_name
from mergekit_geo.views.style import Style, style

TICK = 12
"""Most characters of a choice below a picture."""
GOLDEN = 0.618034
"""Multiples of it fill a unit evenly, whatever their number."""


def slices(found: SearchEntry, unit: str) -> list[Block]:
    """The value against each number, the most important first; the last ones on demand.

    Args:
        found: The search.
        unit: What its value is counted in.
    """
    order = sorted(found.dimensions, key=lambda one: -found.importance.get(one.name, 0.0))
    known = [one for one in order if any(one.name in trial.values for trial in found.trials)]
    if not known or not any(trial.value is not None or trial.by_set for trial in found.trials):
        return []
    first, rest = known[:SHOWN], known[SHOWN:]
    title = "Value against every number of the recipe"
    blocks: list[Block] = [Chart(_sliced(found, first, unit), title, "search-slices")]
    if rest:
        more = Chart(_sliced(found, rest, unit), title, "search-slices-more")
        blocks.append(Folded(f"{len(rest)} more", [more]))
    return blocks


def _sliced(found: SearchEntry, those: Sequence[DimensionEntry], unit: str) -> Scatters:
    panels = [_slice(found, one) for one in those]
    sets = ", ".join(f"{name} {marked}" for name, marked in _sets(found).items())
    name = value_name(found)
    told = f"Δ on {sets}" if found.aims else f"{name[0].upper()}{name[1:]}"
    caption = (
        f"{told} ({unit}, selection half), of every trial against one of its numbers: all others "
        "differ between points, too."
    )
    head = ["trial", value_name(found), *(one.name for one in those)]
    rows = [
        [str(trial.number), number(trial.value), *(cell(trial.values.get(d.name)) for d in those)]
        for trial in found.trials
    ]
    return Scatters(panels, (head, rows), caption)


def _sets(found: SearchEntry) -> Mapping[str, str]:
    """How the sets that were minimised side by side are drawn."""
    return {name: f"({style(i).marker}s)" for i, name in enumerate(found.aims)}


def _slice(found: SearchEntry, one: DimensionEntry) -> ScatterPanel:
    """One number against the value, or against Δ on every set that was minimised."""
    if found.aims:
        points = [_on_set(found, one, name, style(i)) for i, name in enumerate(found.aims)]
        heights = [y for kind in points for y in kind.y]
        span = bounds(heights) if heights else None
        return _plane(one, "Δ", [kind for kind in points if kind.x], span)
    known = [t for t in found.trials if t.value is not None and one.name in t.values]
    values = values_of(known)
    if not values:
        return _plane(one, value_name(found), [], None)
    span = bounds(values, values_of([t for t in known if is_plain(t)]))
    points = kinds_of(
        known, lambda t: (_x(one, t), t.value or 0.0), (EVERYWHERE, span), found.taken
    )
    return _plane(one, value_name(found), points, span)


def _plane(
    one: DimensionEntry, title: str, points: Sequence[Points], span: Span | None
) -> ScatterPanel:
    width = (one.low, one.high) if one.low is not None and one.high is not None else None
    ticks = [label(choice, TICK) for choice in one.labels]
    is_log = one.log and width is not None
    return ScatterPanel(
        one.name, title, points, log=is_log, ticks=ticks, width=width, span=span
    )  # fmt: skip


def _on_set(found: SearchEntry, one: DimensionEntry, name: str, own: Style) -> Points:
    known = [
        (trial, (_x(one, trial), y)) for trial in found.trials
        if one.name in trial.values and (y := trial.by_set.get(name)) is not None
    ]  # fmt: skip
    return points_of(name, own, known)


def _x(one: DimensionEntry, trial: TrialEntry) -> float:
    """Where a trial stands along a number; labels stand at whole numbers, trials around them."""
    value = trial.values[one.name]
    if not one.labels:
        return float(value)
    return one.labels.index(str(value)) + 0.5 * (trial.number * GOLDEN % 1 - 0.5)
