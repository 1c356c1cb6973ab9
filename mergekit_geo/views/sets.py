"""Losses and scores of models on several evaluation sets: a column each, a picture, details."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from mergekit_geo.records.losses import DataEntry, LossEntry, SetEntry
from mergekit_geo.records.report import Report
from mergekit_geo.records.sets import OutputSetEntry
from mergekit_geo.records.standing import Standing, standings
from mergekit_geo.views.block import Block, Folded, Items, Paragraph, Section, Table
from mergekit_geo.views.chart import label
from mergekit_geo.views.losses import (
    ARROWS,
    INTERVALS,
    between,
    describe_data,
    difference_table,
    loss_table,
    losses_section,
    metric,
    models_section,
    share_difference,
)
from mergekit_geo.views.set_charts import skill_charts
from mergekit_geo.views.skills import KIND, kind_of, rival, sets_of
from mergekit_geo.views.tokenization import tokenization_blocks
from mergekit_geo.views.verdict import told_on, verdict

Cell = Callable[[LossEntry], str]


def measured_section(title: str, report: Report) -> Section:
    """Losses of models and the output's differences from them, on one set or on several."""
    sets = sets_of(report)
    if not sets:
        return losses_section(title, report)
    found = standings(report)
    tables = set_tables(sets, found, rival(report))
    details = [_details(name, sets[name], report, found[name]) for name in sets]
    return Section(
        title, [*_about(sets), *skill_charts(sets, found, rival(report)), *tables, *details]
    )


def models_by_set(
    title: str, sets: Mapping[str, SetEntry], losses: Sequence[LossEntry], data: DataEntry | None
) -> Section:
    """Losses of models beside another measurement, on one set or on several.

    Args:
        title: Of the section.
        sets: Several by name; empty where there is one.
        losses: On the one set, or on the first.
        data: What that is.
    """
    if not sets:
        return models_section(title, losses, data)
    what = [f"{name}: {describe_data(one.data)}" for name, one in sets.items()]
    about = Paragraph(f"Measured on {len(sets)} sets; {INTERVALS}. {ARROWS}; best in bold.")
    return Section(title, [about, Items(what), *set_tables(sets, {}, "")])


def brief_losses(report: Report) -> list[str]:
    """Losses of all models, a line each, and what they say."""
    sets = sets_of(report)
    if not sets:
        found = [loss_table(report)]
    else:
        found = [
            Table([], [one.head, *one.rows])
            for one in set_tables(sets, standings(report), rival(report))
        ]
    rows = ["  ".join(filter(None, row)) for one in found for row in one.rows]
    return rows + [text for text in [verdict(report)] if text]


def _about(sets: Mapping[str, OutputSetEntry]) -> list[Block]:
    """What the sets are, and how their numbers are to be read."""
    what = [f"{name}: {describe_data(one.data)}" for name, one in sets.items()]
    intervals = f"{INTERVALS}, paired in the row of differences"
    return [Paragraph(f"Measured on {len(sets)} sets; {intervals}. {ARROWS}; best in bold."),
            Items(what)]  # fmt: skip


def set_tables(
    sets: Mapping[str, SetEntry], found: Mapping[str, Standing | None], held_against: str
) -> list[Table]:
    """A table of losses and one of scores, each with a row for a model and a column for a set.

    Args:
        sets: What was measured on each.
        found: How the output stands there; empty where there is no output.
        held_against: What that is beside.
    """
    unit = _shared([f"loss per {one.data.unit}" for one in sets.values()], "loss")
    score = _shared([one.data.metric for one in sets.values() if one.data.metric], "score")
    losses = _models(unit, "↓", sets, _loss, _lowest)
    scores = _models(score, "↑", sets, metric, _highest)
    if found:
        losses = _with(losses, _beside(found, held_against))
        scores = _with(scores, _scores_beside(found)) if _has_scores(sets) else scores
    return [losses, *([scores] if _has_scores(sets) else [])]


def _has_scores(sets: Mapping[str, SetEntry]) -> bool:
    return any(entry.metric is not None for one in sets.values() for entry in one.losses)


def _shared(names: Sequence[str], else_: str) -> str:
    """What all sets have in common."""
    return names[0] if len(set(names)) == 1 else else_


def _models(
    title: str,
    arrow: str,
    sets: Mapping[str, SetEntry],
    cell: Cell,
    best: Callable[[SetEntry], set[str]],
) -> Table:
    """A row for a model and a column for a set."""
    names = list(dict.fromkeys(e.model for one in sets.values() for e in one.losses))
    known = [{entry.model: entry for entry in one.losses} for one in sets.values()]
    rows = [
        [name, *(cell(entries[name]) if name in entries else "" for entries in known)]
        for name in names
    ]
    bold = {
        (names.index(name), column)
        for column, one in enumerate(sets.values(), 1)
        for name in (best(one) if len(one.losses) > 1 else ())
    }
    return Table([title, *(_head(name, one.data, title, arrow) for name, one in sets.items())],
                 rows, bold)  # fmt: skip


def _loss(entry: LossEntry) -> str:
    if not math.isfinite(entry.loss):
        return "not a number"
    if entry.low is None or entry.high is None:
        return f"{entry.loss:.4f}"
    return between(entry.loss, entry.low, entry.high, ".4f")


def _head(name: str, data: DataEntry, title: str, arrow: str) -> str:
    """A set, and what its column counts in where columns differ."""
    unlike = {"loss": f" per {data.unit}", "score": f" {data.metric}"}.get(title, "")
    return f"{name}{unlike} {arrow}"


def _lowest(found: SetEntry) -> set[str]:
    known = {e.model: e.loss for e in found.losses if math.isfinite(e.loss)}
    return {name for name, loss in known.items() if loss == min(known.values())}


def _highest(found: SetEntry) -> set[str]:
    known = {e.model: e.metric for e in found.losses if e.metric is not None}
    return {name for name, score in known.items() if score == max(known.values())}


def _with(found: Table, rows: Sequence[Sequence[str]]) -> Table:
    return Table(found.head, [*found.rows, *rows], found.best)


def _beside(found: Mapping[str, Standing | None], held_against: str) -> list[list[str]]:
    """The output's difference from the best parent on each set, and what it comes to."""
    every = list(found.values())
    title = held_against.removeprefix("the ")
    rows = [
        [f"Δ to {title}", *(share_difference(one.difference) if one else "" for one in every)],
        [title, *(label(one.model, most=16) if one else "" for one in every)],
        ["verdict", *(KIND[kind_of(one)] for one in every)],
    ]
    return rows if title == "best parent" else [rows[0], rows[2]]


def _scores_beside(found: Mapping[str, Standing | None]) -> list[list[str]]:
    """Rows of scores beside the parent of the highest one."""
    every = [one.score if one else None for one in found.values()]
    return [
        ["Δ to the highest", *(share_difference(one.estimate) if one else "" for one in every)],
        ["verdict", *(one.word.replace("-", " ") if one else "" for one in every)],
    ]


def _details(name: str, found: OutputSetEntry, report: Report, standing: Standing | None) -> Folded:
    """All that was measured on one set."""
    notes = [f"note: {note}" for note in found.data.notes]
    return Folded(f"{name}: losses, scores and differences", [
        Paragraph(told_on(report, standing) if standing else found.reason),
        Items(notes),
        difference_table(found.losses, found.differences, found.data),
        *tokenization_blocks(found.tokenization, found.data.unit),
    ])  # fmt: skip
