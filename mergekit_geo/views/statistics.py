"""What was computed of the models on data of theirs, by which a method merged them."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.printable import in_words
from mergekit_geo.records.statistics import StatisticEntry
from mergekit_geo.views.block import Items, Section, table
from mergekit_geo.views.chart import short_name

TITLE = "Data of the models"


def statistics_section(entries: Sequence[StatisticEntry]) -> Section:
    """A row for each model: what was computed, on what; empty where the method needs no data."""
    if not entries:
        return Section(TITLE, ())
    columns = {
        "model": [short_name(one.model) for one in entries],
        "computed": [one.kind for one in entries],
        "data": [one.source for one in entries],
        "mean share": ["" if one.share is None else f"{one.share:.1%}" for one in entries],
        "examples": [f"{one.examples:,} of {one.available:,}" for one in entries],
        "documents": [f"{one.documents:,}" for one in entries],
        "labels": [LABELS.get(one.labels, one.labels) for one in entries],
        "time": [_time(one) for one in entries],
    }
    return Section(TITLE, [table(columns), Items(_shared(entries))])


LABELS = {"sampled": "drawn from the model", "data": "those of the data"}


def _time(entry: StatisticEntry) -> str:
    """What it took, and whether this run spent it."""
    if entry.reused:
        return "kept by an earlier run"
    return "" if entry.seconds is None else in_words(entry.seconds)


def _shared(entries: Sequence[StatisticEntry]) -> list[str]:
    """Models that have no data of their own."""
    names = [short_name(one.model) for one in entries if one.shared]
    if not names:
        return []
    source = next(one.source for one in entries if one.shared)
    whose = "every model" if len(names) == len(entries) else ", ".join(names)
    return [f"{source} is for all models that no data is named for: {whose}"]
