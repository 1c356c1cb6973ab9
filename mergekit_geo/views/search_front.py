"""The front of a search for several aims: trials that no other is better than on every set."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import combinations, islice

from mergekit_geo.records.losses import Estimate
from mergekit_geo.records.report import Report
from mergekit_geo.records.search import SearchEntry, TrialEntry
from mergekit_geo.views.block import Block, Chart, Folded, Table
from mergekit_geo.views.chart import NumberTable, number, short_name
from mergekit_geo.views.losses import share_difference
from mergekit_geo.views.scatter import Points, ScatterPanel, Scatters, Stairs
from mergekit_geo.views.search_charts import bounds, kinds_of
from mergekit_geo.views.search_trials import cell, title_of
from mergekit_geo.views.style import OUTPUT, Style

PAIR = 2
MOST_PAIRS = 10
"""Most pairs of sets that have a picture."""
SHOWN = 12
"""Most trials of a front that have a row, or a number in a picture, without being asked for."""
ROOM = 0.07
"""Share of a front's width and height within which two numbers would cover each other."""
FRONT = Style(OUTPUT, "diamond", "solid")


def front_blocks(found: SearchEntry, unit: str) -> list[Block]:
    """Table and picture of a front; nothing of a search for one aim.

    Args:
        found: The search.
        unit: What Δ is counted in.
    """
    trials = on_front(found)
    if not trials:
        return []
    few = thinned(trials)
    title = f"Trials and the front of {' and '.join(found.aims)}"
    chart = Chart(_picture(found, trials, unit), title, "search-front")
    blocks: list[Block] = [chart, front_table(found, few)]
    if len(few) < len(trials):
        blocks.append(Folded(f"all {len(trials)} of the front", [front_table(found, trials)]))
    return [*blocks, Folded("numbers of the front", [_values(found, trials)])]


def on_front(found: SearchEntry) -> list[TrialEntry]:
    """Trials of the front, the best on the first set first."""
    trials = [trial for trial in found.trials if trial.number in found.front]
    return sorted(trials, key=lambda trial: [trial.by_set.get(n) or 0.0 for n in found.aims])


def thinned(trials: Sequence[TrialEntry]) -> list[TrialEntry]:
    """Thin a front to a dozen trials, evenly over it, both ends among them."""
    if len(trials) <= SHOWN:
        return list(trials)
    return [trials[round(i * (len(trials) - 1) / (SHOWN - 1))] for i in range(SHOWN)]


def front_table(found: SearchEntry, trials: Sequence[TrialEntry]) -> Table:
    """What trials count on every set, on both halves."""
    measured = any(trial.report for trial in trials)
    head = ["trial", *(f"Δ {name} ↓" for name in found.aims)]
    head += [f"{name}, report half ↓" for name in found.aims] if measured else []
    rows = [
        [_named(trial), *(number(trial.by_set.get(name)) for name in found.aims),
         *(_reported(trial.report.get(name)) for name in (found.aims if measured else []))]
        for trial in trials
    ]  # fmt: skip
    return Table(head, rows)


def _named(trial: TrialEntry) -> str:
    return f"{trial.number} ({short_name(trial.title)})" if trial.title else str(trial.number)


def _reported(found: Estimate | None) -> str:
    return share_difference(found) if isinstance(found, Estimate) else ""


def _values(found: SearchEntry, trials: Sequence[TrialEntry]) -> Table:
    """The recipes of a front."""
    names = [one.name for one in found.dimensions]
    rows = [[_named(trial), *(cell(trial.values.get(name)) for name in names)] for trial in trials]
    return Table(["trial", *names], rows)


def _picture(found: SearchEntry, trials: Sequence[TrialEntry], unit: str) -> Scatters:
    """A plane for two sets, one for every pair of more."""
    pairs = list(islice(combinations(found.aims, PAIR), MOST_PAIRS))
    panels = [_plane(found, trials, *pair) for pair in pairs]
    left_out = len(list(combinations(found.aims, PAIR))) - len(pairs)
    more = f" {left_out} other pairs of sets are in the table." if left_out else ""
    joined = "Line: what the front reaches. " if len(found.aims) == PAIR else (
        "Of the front on all sets, each pair of sets: no pair has to have a front of its own. "
    )  # fmt: skip
    caption = (
        f"{joined}Δ is the loss minus that of the best model on the set, in {unit}, on the "
        f"selection half; lower and further to the left is better. Diamonds: the front.{more}"
    )
    return Scatters(panels, _numbers(found), caption)


def _plane(found: SearchEntry, trials: Sequence[TrialEntry], across: str, up: str) -> ScatterPanel:
    """Trials on two sets; the line that a front of two reaches."""
    known = [t for t in found.trials if _at(t, across, up)]
    others = [trial for trial in known if trial.number not in found.front]
    right, top = (bounds([t.by_set[name] or 0.0 for t in known]) for name in (across, up))
    points = kinds_of(others, lambda t: _at(t, across, up), (right, top), found.taken)
    places = [at for trial in trials if (at := _at(trial, across, up))]
    is_front = len(found.aims) == PAIR
    stairs = Stairs("reached", [x for x, _ in places], [y for _, y in places], None)
    return ScatterPanel(
        f"Δ {across} ↓", f"Δ {up} ↓",
        [*points, _front(trials, across, up, named=is_front)],
        stairs if is_front else None, span=top,
    )  # fmt: skip


def _front(trials: Sequence[TrialEntry], across: str, up: str, *, named: bool) -> Points:
    placed = [(trial, at) for trial in trials if (at := _at(trial, across, up))]
    places = [at for _, at in placed]
    apart = _apart(places) if named else []
    return Points(
        "front", FRONT, [x for x, _ in places], [y for _, y in places],
        [title_of(trial) for trial, _ in placed],
        [_named(t) if free else "" for (t, _), free in zip(placed, apart, strict=False)],
    )  # fmt: skip


def _apart(places: Sequence[tuple[float, float]]) -> list[bool]:
    """Which points have room for a number beside them, as those before them have."""
    widths = [max(axis) - min(axis) or 1.0 for axis in zip(*places, strict=True)]
    kept: list[tuple[float, float]] = []
    found = []
    for at in places:
        near = (
            max(abs(a - b) / w for a, b, w in zip(at, one, widths, strict=True)) < ROOM
            for one in kept
        )
        found.append(not any(near))
        kept += [at] if found[-1] else []
    return found


def _at(trial: TrialEntry, across: str, up: str) -> tuple[float, float] | None:
    """Where a trial stands on two sets; None where it was not measured there."""
    x, y = trial.by_set.get(across), trial.by_set.get(up)
    return None if x is None or y is None else (x, y)


def _numbers(found: SearchEntry) -> NumberTable:
    """A row for each trial."""
    return ["trial", *(f"Δ {name}" for name in found.aims), "front"], [
        [_named(t), *(number(t.by_set.get(name)) for name in found.aims),
         "front" if t.number in found.front else ""]
        for t in found.trials
    ]  # fmt: skip


def take_command(report: Report, found: SearchEntry) -> str:
    """The command that writes the middle one of a front; empty where none is known.

    Args:
        report: Of the search.
        found: The search.
    """
    words = shlex.split(report.provenance.command) if report.provenance else []
    if not words or not report.output:
        return ""
    trials, out = on_front(found), report.output
    number = trials[len(trials) // 2].number
    renamed = [f"{out}-{number}" if word == out else word for word in words]
    is_told = any(word.startswith("--storage=") for word in words)
    kept = [] if is_told else [f"--storage={found.storage}"]
    return shlex.join([*renamed, *kept, f"--take={number}"])
