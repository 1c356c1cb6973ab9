"""Losses of models side by side, and what they were measured on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mergekit_geo.records.losses import DataEntry, DifferenceEntry, Estimate, LossEntry
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.records.training import FinetuneMeasurements
from mergekit_geo.views.block import Block, Items, Paragraph, Section, Table, table
from mergekit_geo.views.chart import number

WITH_OUTPUT = MergeMeasurements | FinetuneMeasurements
"""Results of commands that write a model."""


def models_section(title: str, losses: Sequence[LossEntry], data: DataEntry | None) -> Section:
    """Losses of models, beside another measurement; empty without data."""
    return Section(title, _blocks(data, model_table(losses, data)) if data else ())


def losses_section(title: str, report: Report) -> Section:
    """Losses of models, and the output's differences from them; empty without losses."""
    found = loss_table(report)
    if report.data is None or not found.rows:
        return Section(title, ())
    return Section(title, _blocks(report.data, found, ", paired in the columns of differences"))


def _blocks(data: DataEntry, found: Table, more: str = "") -> list[Block]:
    intervals = f"[..] and ± are 95 % intervals over documents{more}"
    about = Paragraph(f"Measured on {describe_data(data)}; {intervals}.")
    return [Items([f"note: {note}" for note in data.notes]), about, found]


def loss_table(report: Report) -> Table:
    """Losses and scores of models, and the output's differences from them."""
    result = report.result
    if not isinstance(result, WITH_OUTPUT) or report.data is None or not result.losses:
        return Table([], [])
    known = {entry.model: entry for entry in result.differences}
    found = [None if entry.role == "output" else known.get(entry.model) for entry in result.losses]
    score = (report.data.metric or "score").rpartition(" ")[2]
    return table({
        **_columns(result.losses, report.data),
        "output minus it": [estimate(entry) for entry in found],
        f"{score} difference": [share_difference(entry and entry.metric) for entry in found],
        "macro-F1 difference": [share_difference(entry and entry.macro_f1) for entry in found],
    })  # fmt: skip


def model_table(losses: Sequence[LossEntry], data: DataEntry) -> Table:
    """Losses and scores of models."""
    return table(_columns(losses, data))


def _columns(losses: Sequence[LossEntry], data: DataEntry) -> dict[str, list[str]]:
    return {
        "model": [entry.model for entry in losses],
        f"loss per {data.unit}": [with_interval(entry) for entry in losses],
        "perplexity": [number(entry.perplexity, ".4g") for entry in losses],
        data.metric or "score": [metric(entry) for entry in losses],
        "macro-F1": [number(entry.macro_f1) for entry in losses],
    }


def describe_data(data: DataEntry) -> str:
    """Data that loss was measured on, in a line."""
    half = " of the report half" if data.half else ""
    unit = f"{data.tokens} {data.unit}s, " if data.unit != "example" else ""
    return f"{data.source}: {unit}{data.examples} examples, {data.documents} documents{half}"


def with_interval(entry: LossEntry) -> str:
    """A loss with its interval as text."""
    if entry.low is None:
        return f"{entry.loss:.4f}"
    return f"{entry.loss:.4f} [{entry.low:.4f}, {entry.high:.4f}]"


def estimate(found: Estimate | DifferenceEntry | None) -> str:
    """A signed number with its interval as text; empty for None."""
    if found is None:
        return ""
    if found.value is None:
        return "not a number"
    if found.low is None:
        return f"{found.value:+.4f}"
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def metric(entry: LossEntry) -> str:
    """A model's score; empty where it has none."""
    if entry.metric is None or entry.metric_low is None:
        return number(entry.metric)
    assert entry.metric_high is not None, "an end without the other"
    return _share(entry.metric, entry.metric_low, entry.metric_high, ".4f")


def share_difference(entry: Estimate | DifferenceEntry | None) -> str:
    """A difference of scores with its sign and interval; empty for None."""
    if entry is None or entry.value is None or entry.low is None or entry.high is None:
        return estimate(entry)
    return _share(entry.value, entry.low, entry.high, "+.4f")


def _share(value: float, low: float, high: float, form: str) -> str:
    """A share with its interval, by ± where that has it in the middle."""
    if math.isclose(value - low, high - value, abs_tol=1e-6):
        return f"{value:{form}} ± {value - low:.4f}"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"
