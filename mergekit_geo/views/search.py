"""A search over recipes: what was tried, the best of it, and what that is worth."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from mergekit_geo.records.findings import Finding, finding, limit_of
from mergekit_geo.records.losses import DataEntry, SetEntry
from mergekit_geo.records.report import Report
from mergekit_geo.records.search import (
    ReferenceEntry,
    ReferenceSetEntry,
    SearchEntry,
    SearchMeasurements,
    TrialEntry,
)
from mergekit_geo.records.standing import WORDS
from mergekit_geo.views.block import (
    Block,
    Chart,
    Code,
    Folded,
    Items,
    Paragraph,
    Section,
    Table,
    View,
)
from mergekit_geo.views.chart import Dots, Panel
from mergekit_geo.views.losses import estimated, loss_unit, share_difference
from mergekit_geo.views.search_charts import importance_chart, progress_chart
from mergekit_geo.views.search_front import front_blocks
from mergekit_geo.views.search_slices import slices
from mergekit_geo.views.search_trials import DEFAULT, cell, outcome, value_name
from mergekit_geo.views.search_words import (
    about,
    cost,
    front_words,
    known_finding,
    search_headline,
    set_aside,
)
from mergekit_geo.views.sets import models_by_set

TITLE = "Search"
SHORT = 8
"""Most numbers of a recipe that are shown without being asked for."""


def view(report: Report, found: SearchMeasurements) -> View:
    """View of a search that wrote no merge."""
    blocks = [
        search_section(found.search, report.data, found.sets),
        models_by_set("Losses", found.sets, found.losses, report.data),
    ]
    told = [*front_words(found.search), *search_headline(found.search)]
    return View(told, blocks, search_files(found.search))


def search_section(
    found: SearchEntry | None, data: DataEntry | None, sets: Mapping[str, SetEntry]
) -> Section:
    """What was tried, the best beside plain choices, pictures; empty without a search.

    Args:
        found: The search.
        data: What loss was measured on, of the first set.
        sets: What was measured on each of several sets.
    """
    if found is None:
        return Section(TITLE, ())
    unit = unit_of(data, sets)
    return Section(TITLE, [
        Paragraph(f"{about(found)} {cost(found)}"),
        Items(set_aside(found)),
        reference_table(found),
        *_references(found, unit),
        *progress_chart(found, unit),
        *front_blocks(found, unit),
        *importance_chart(found),
        *_recipe(found),
        *slices(found, unit),
        *_study(found),
    ])  # fmt: skip


def unit_of(data: DataEntry | None, sets: Mapping[str, SetEntry]) -> str:
    """What values are counted in; shares where sets count in unlike units."""
    units = {loss_unit(one.data) for one in sets.values()} or {loss_unit(data)}
    return units.pop() if len(units) == 1 else "share of the best model's loss"


def reference_table(found: SearchEntry) -> Table:
    """The output minus each plain choice on the report half, and what that comes to."""
    if not found.references:
        return Table([], [])
    sets = _sets(found)
    head = ["report half: output minus", f"{_delta(found)} ↓", *(f"Δ {n} ↓" for n in sets)]
    rows = [
        [_called(one), share_difference(one.difference),
         *(share_difference(one.sets[name].difference) if name in one.sets else ""
           for name in sets), WORDS[known_finding(one)].replace("-", " ")]
        for one in found.references
    ]  # fmt: skip
    return Table([*head, "verdict"], rows)


def _sets(found: SearchEntry) -> list[str]:
    """Sets that have columns of their own: all, where there are several."""
    sets = list(found.references[0].sets)
    return sets if len(sets) > 1 else []


def _delta(found: SearchEntry) -> str:
    """What is subtracted: losses, or what counts over several sets."""
    if found.aims:
        return "mean Δ"
    return "Δ loss" if value_name(found) == "loss" else value_name(found)


def _called(one: ReferenceEntry) -> str:
    return f"{one.title} ({one.model})" if one.model else one.title


def _references(found: SearchEntry, unit: str) -> list[Chart]:
    """Differences from plain choices as dots with intervals."""
    if not found.references:
        return []
    those, names = found.references, [one.title for one in found.references]
    dots, kinds = [estimated(one.difference) for one in those], [known_finding(o) for o in those]
    panels = [Panel(f"{_delta(found)} ↓", dots, 0.0, findings=kinds)]
    panels += [_panel([one.sets.get(name) for one in those], name) for name in _sets(found)]
    caption = (
        f"Output minus each, in {unit}, on the report half: lines are 95 % intervals over "
        "documents, paired. Square: the output is worse; circle: no significant difference; "
        "diamond: better; open circle: cannot tell."
    )
    picture = Dots(names, [False] * len(names), panels, caption)
    return [Chart(picture, "The output beside plain choices", "search-references")]


def _panel(found: Sequence[ReferenceSetEntry | None], name: str) -> Panel:
    """Differences from plain choices on one set."""
    kinds: list[Finding] = [
        finding(one.difference, limit_of(one.loss)) if one else "unknown" for one in found
    ]
    dots = [estimated(one.difference) if one else None for one in found]
    return Panel(f"Δ {name} ↓", dots, 0.0, findings=kinds)


def _recipe(found: SearchEntry) -> list[Block]:
    """Numbers of the output beside those of the default recipe; on demand where there are many."""
    own = found.trial(found.taken if found.taken is not None else found.best)
    if own is None:
        return []
    default = next((one for one in found.trials if DEFAULT in one.starts), None)
    shown = _values(found, own, default if default is not own else None)
    title = f"numbers of trial {own.number}"
    return [shown] if len(found.dimensions) <= SHORT else [Folded(title, [shown])]


def _values(found: SearchEntry, own: TrialEntry, default: TrialEntry | None) -> Table:
    head = ["recipe", f"trial {own.number}", *(["default"] if default else []), "searched"]
    rows = [
        [one.name, cell(own.values.get(one.name)),
         *([cell(default.values.get(one.name))] if default else []),
         ", ".join(one.labels) or f"{cell(one.low)} to {cell(one.high)}{' (log)' * one.log}"]
        for one in found.dimensions
    ]  # fmt: skip
    return Table(head, rows)


def _study(found: SearchEntry) -> list[Block]:
    """Where the study is kept, and what opens it."""
    if not found.storage:
        return []
    told = f"Study {found.study}, in {found.storage}: the same command goes on with it"
    if found.storage.startswith("a database"):
        return [Folded("the study", [Paragraph(f"{told}, and Optuna Dashboard opens it.")])]
    command = Code(shlex.join(["optuna-dashboard", found.storage]))
    return [Folded("the study", [Paragraph(f"{told}; to look at it:"), command])]


def search_files(found: SearchEntry | None) -> dict[str, Callable[[], bytes]]:
    """CSV of all trials; no file without a search."""
    return {"search.csv": partial(_csv, found)} if found else {}


def _csv(found: SearchEntry) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [one.name for one in found.dimensions]
    sets = list(dict.fromkeys(name for trial in found.trials for name in trial.by_set))
    writer.writerow(["trial", "start", "outcome", "value", "low", "high", *sets, "lost", "cost",
                     "seconds", *names])  # fmt: skip
    for t in found.trials:
        writer.writerow([
            t.number, t.title, outcome(t), t.value, t.low, t.high, *map(t.by_set.get, sets),
            t.lost, t.share, t.seconds, *map(t.values.get, names),
        ])  # fmt: skip
    return text.getvalue().encode()
