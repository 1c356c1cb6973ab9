"""Losses of models side by side: a table of models and sets, and each set by itself."""

from __future__ import annotations

from collections.abc import Mapping

from mergekit_geo.records.evaluation import EvaluationMeasurements, EvaluationSet
from mergekit_geo.records.losses import DifferenceEntry
from mergekit_geo.records.report import Report
from mergekit_geo.views.amount import listed, signed
from mergekit_geo.views.block import Block, Chart, Folded, Items, Paragraph, Section, View
from mergekit_geo.views.chart import Dot, Dots, Panel, label
from mergekit_geo.views.losses import (
    ARROWS,
    INTERVALS,
    describe_data,
    difference_table,
    dot,
    estimated,
    loss_unit,
)
from mergekit_geo.views.sets import set_tables

CAPTION = (
    "Lines are 95 % intervals over documents; of Δ they are paired, of the same examples: one that "
    "leaves the dotted line out is significant."
)


def view(report: Report, found: EvaluationMeasurements) -> View:
    """View of an evaluation: models side by side on every set."""
    sets = found.sets or _only(report, found)
    headline = [said_of(one, name) for name, one in sets.items()]
    if len(sets) == 1:
        (one,) = sets.values()
        about, *rest = _blocks(one)
        return View(headline, [Section("Losses", [about, *_chart(sets), *rest])])
    what = Items([f"{name}: {describe_data(one.data)}" for name, one in sets.items()])
    about = Paragraph(f"Measured on {len(sets)} sets; {INTERVALS}. {ARROWS}; best in bold.")
    details = [
        Folded(f"{name}: losses and differences", _blocks(one)) for name, one in sets.items()
    ]
    tables = set_tables(sets, {}, "")
    return View(headline, [Section("Losses", [about, what, *_chart(sets), *tables, *details])])


def _only(report: Report, found: EvaluationMeasurements) -> Mapping[str, EvaluationSet]:
    """The set that stands alone, which has no name."""
    if report.data is None:
        return {}
    return {
        "": EvaluationSet(
            data=report.data, losses=found.losses, best=found.best, differences=found.differences
        )
    }


def said_of(found: EvaluationSet, name: str = "") -> str:
    """Which model is best on a set, and which of the others can be told from it."""
    on, unit = f" on {name}" if name else "", loss_unit(found.data)
    if not found.best:
        return f"Losses{on} are not compared: models read the data differently."
    loss = next(entry.loss for entry in found.losses if entry.model == found.best)
    parts = [f"{found.best} has the lowest loss{on}, {loss:.4f} {unit}"]
    words = {True: "significantly above it", False: "no significant difference", None: "above it"}
    for significant, said in words.items():
        those = [_above(entry) for entry in found.differences if entry.significant is significant]
        parts += [f"{said}: {listed(those)}"] if those else []
    return f"{'; '.join(parts)}." if found.differences else f"{found.best}: {loss:.4f} {unit}{on}."


def _above(entry: DifferenceEntry) -> str:
    return f"{entry.model} ({signed(entry.value, entry)})"


def _chart(sets: Mapping[str, EvaluationSet]) -> list[Chart]:
    """How far models are above the best of each set, as dots with intervals."""
    compared = {name: one for name, one in sets.items() if one.differences}
    if not compared:
        return []
    entries = next(iter(compared.values())).losses
    panels = [
        Panel(f"Δ to the best{f' on {label(name)}' if name else ''} ({loss_unit(one.data)}) ↓",
              _differences(one), 0.0)
        for name, one in compared.items()
    ]  # fmt: skip
    if len(sets) == 1:
        (one,) = sets.values()
        shown = [dot(entry.loss, entry.low, entry.high) for entry in entries]
        panels.insert(0, Panel(f"loss ({loss_unit(one.data)}) ↓", shown))
    names = [label(entry.model) for entry in entries]
    picture = Dots(names, [False] * len(names), panels, CAPTION)
    return [Chart(picture, "Losses of models, and how far they are above the best", "losses")]


def _differences(found: EvaluationSet) -> list[Dot | None]:
    known = {entry.model: entry for entry in found.differences}
    return [
        dot(0.0, None, None) if entry.model == found.best else estimated(known.get(entry.model))
        for entry in found.losses
    ]


def _blocks(found: EvaluationSet) -> list[Block]:
    """One set: what was measured on, and its table."""
    paired = ", paired in the columns of differences" if found.differences else ""
    return [
        Paragraph(f"Measured on {describe_data(found.data)}; {INTERVALS}{paired}. {ARROWS}; best "
                  "in bold."),
        Items([f"note: {note}" for note in found.data.notes]),
        difference_table(found.losses, found.differences, found.data, "model − best"),
    ]  # fmt: skip
