"""Pictures of a search: best so far over trials, and importance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mergekit_geo.records.search import SearchEntry, TrialEntry
from mergekit_geo.views.block import Chart
from mergekit_geo.views.chart import BarPanel, Bars, Dot, NumberTable, number
from mergekit_geo.views.scatter import Points, ScatterPanel, Scatters, Stairs
from mergekit_geo.views.search_trials import (
    by_kind,
    is_plain,
    outcome,
    spanned,
    title_of,
    value_name,
)
from mergekit_geo.views.style import COLOURS, Style

SHOWN = 12
"""Most numbers that have a picture, or a bar, of their own without being asked for."""
WIDE_OPEN = 0.05
"""Share of a picture that is left free beyond its points."""
UNUSUAL = 0.9
"""Share of the trials that are drawn where they are, if those above would flatten them."""
FEW = 10
"""Trials up to which all are drawn where they are."""
FAR = 4.0
"""Heights of the usual picture within which a start, and the band, are still in it."""
BEYOND = "beyond the picture"

Span = tuple[float, float]
EVERYWHERE = (-math.inf, math.inf)
Place = Callable[[TrialEntry], tuple[float, float] | None]
"""Where a trial stands in a plane; None for one that does not."""


def progress_chart(found: SearchEntry, unit: str) -> list[Chart]:
    """Trials in their order, and the best so far in the band of its interval.

    Nothing where several sets were minimised side by side, or no trial has a value.

    Args:
        found: The search.
        unit: What its value is counted in.
    """
    known = [trial for trial in found.trials if trial.value is not None]
    if not known:
        return []
    stairs = best_so_far(found.trials)
    band = [*stairs.band[0], *stairs.band[1]] if stairs and stairs.band else []
    span = bounds(values_of(known), [*values_of([t for t in known if is_plain(t)]), *band])
    points = kinds_of(known, lambda t: (t.number, t.value or 0.0), (EVERYWHERE, span), found.taken)
    panel = ScatterPanel("trial", f"{value_name(found)} ↓", points, stairs, counts=True, span=span)
    caption = _how(found, known, unit) + _starts_beyond(known, span[1])
    picture = Scatters([panel], trial_table(found), caption)
    return [Chart(picture, "Value of every trial, and the best so far", "search")]


def values_of(trials: Sequence[TrialEntry]) -> list[float]:
    """What those trials count that have a value.

    Args:
        trials: In any order.
    """
    return [trial.value for trial in trials if trial.value is not None]


def _how(found: SearchEntry, known: Sequence[TrialEntry], unit: str) -> str:
    """How the picture of the best so far is to be read."""
    name, kept = value_name(found), " of those that keep what is to be kept" if found.kept else ""
    stopped = " Hollow: stopped by racing." if any(trial.stopped for trial in known) else ""
    return (
        f"{name[0].upper()}{name[1:]} in {unit}, on the selection half. Line: the best so far"
        f"{kept}, in the 95 % interval of its own value over documents; paired differences of two "
        f"trials are more certain than this band.{stopped}"
    )


def _starts_beyond(trials: Sequence[TrialEntry], top: float) -> str:
    """Starts that stand at the edge, with what they count."""
    told = [f"{t.title} ({t.value:.4g})" for t in trials if t.title and (t.value or 0.0) > top]
    return f" Beyond the picture: {', '.join(told)}." if told else ""


def best_so_far(trials: Sequence[TrialEntry]) -> Stairs | None:
    """The lowest value after each trial, of whole ones that keep all that is to be kept.

    Args:
        trials: By number.
    """
    steps: list[TrialEntry] = []
    for trial in trials:
        good = trial.is_whole and trial.is_feasible and trial.value is not None
        if good and (not steps or (trial.value or 0.0) < (steps[-1].value or 0.0)):
            steps.append(trial)
    if not steps:
        return None
    steps.append(steps[-1].model_copy(update={"number": trials[-1].number}))
    lows = [trial.low for trial in steps if trial.low is not None]
    highs = [trial.high for trial in steps if trial.high is not None]
    band = (lows, highs) if len(lows) == len(highs) == len(steps) else None
    values = [trial.value for trial in steps if trial.value is not None]
    return Stairs("best so far", [trial.number for trial in steps], values, band)


def bounds(values: Sequence[float], shown: Sequence[float] = ()) -> Span:
    """Ends of an axis that the worst trials cannot push apart.

    Args:
        values: Of all of them.
        shown: What is to be seen, too, unless it is very far away.
    """
    ordered = sorted(values)
    usual = ordered[int(UNUSUAL * (len(ordered) - 1))]
    top = ordered[-1] if len(values) <= FEW else min(ordered[-1], 2 * usual - ordered[0])
    far = ordered[0] + FAR * (top - ordered[0])
    top = max([top, *(one for one in shown if one <= far)])
    low = min([*shown, ordered[0]])
    room = WIDE_OPEN * (top - low) or max(abs(top) * WIDE_OPEN, 1e-6)
    return low - room, top + room


def kinds_of(
    trials: Sequence[TrialEntry], place: Place, spans: tuple[Span, Span], taken: int | None
) -> list[Points]:
    """Points of every kind of trial; what lies beyond the picture stands at its edge, and says so.

    Args:
        trials: What is drawn.
        place: Where each stands.
        spans: Ends of x and y.
        taken: Number of the output; None where there is none.
    """
    found = []
    outside = Style(COLOURS[0], "triangle-up-open", "")
    for kind, those in by_kind(trials, taken).items():
        placed = [(trial, at) for trial in those if (at := place(trial)) is not None]
        inside = [(trial, at) for trial, at in placed if _is_within(at, spans)]
        beyond = [
            (trial, (min(at[0], _edge(spans[0])), min(at[1], _edge(spans[1]))))
            for trial, at in placed
            if not _is_within(at, spans)
        ]
        found += [points_of(kind.name, kind.style, inside), points_of(BEYOND, outside, beyond)]
    return _joined([kind for kind in found if kind.x])


def _is_within(at: tuple[float, float], spans: tuple[Span, Span]) -> bool:
    return all(place <= _edge(span) for place, span in zip(at, spans, strict=True))


def _edge(span: Span) -> float:
    """Where a point stands that lies beyond: whole within the picture."""
    low, high = span
    return high if math.isinf(high) else high - 0.4 * WIDE_OPEN * (high - low)


def points_of(
    name: str, own: Style, placed: Sequence[tuple[TrialEntry, tuple[float, float]]]
) -> Points:
    """Points of one kind, each told what it is.

    Args:
        name: Of the kind.
        own: How they are drawn.
        placed: Trials, and where they stand.
    """
    xs, ys = ([at[axis] for _, at in placed] for axis in (0, 1))
    return Points(name, own, xs, ys, [title_of(trial) for trial, _ in placed])


def _joined(found: Sequence[Points]) -> list[Points]:
    """Kinds of one name as one."""
    every: dict[str, Points] = {}
    for kind in found:
        known = every.get(kind.name)
        every[kind.name] = kind if known is None else Points(
            kind.name, known.style, [*known.x, *kind.x], [*known.y, *kind.y],
            [*known.texts, *kind.texts],
        )  # fmt: skip
    return list(every.values())


def importance_chart(found: SearchEntry) -> list[Chart]:
    """Bars of the importance of the numbers that have most; nothing where it is not known."""
    shares = sorted(found.importance.items(), key=lambda item: -item[1])
    if not shares:
        return []
    shown, rest = shares[:SHOWN], shares[SHOWN:]
    if rest:
        shown.append((f"{len(rest)} others", sum(share for _, share in rest)))
    bars = [Dot(share) for _, share in shown]
    labels = [f"{100 * share:.0f} %" for _, share in shown]
    panel = BarPanel("share of the variance", [bars], [labels])
    of = "the sum of Δ over the sets" if found.aims else "the value"
    left_out = any(one.name not in found.importance for one in found.dimensions)
    caption = (
        f"Share of what each does by itself in the variance of {of} over the space (fANOVA of the "
        "trials); of few trials it is a rough guess."
        f"{' Numbers that not every trial has are left out.' * left_out}"
    )
    picture = Bars([name for name, _ in shown], ["importance"], [panel], caption)
    return [Chart(picture, "Importance of what was searched over", "search-importance")]


def trial_table(found: SearchEntry) -> NumberTable:
    """A row for each trial: what it counts, how it ended, what it cost."""
    head = ["trial", "start", value_name(found), *_columns(found), "outcome", "cost"]
    return head, [
        [str(t.number), t.title, spanned(t), *(number(t.by_set.get(n)) for n in _columns(found)),
         outcome(t), f"{t.share:.2f}"]
        for t in found.trials
    ]  # fmt: skip


def _columns(found: SearchEntry) -> list[str]:
    """Sets that trials have a number for."""
    return list(dict.fromkeys(name for trial in found.trials for name in trial.by_set))
