"""Losses of models side by side, and what they were measured on."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.records.losses import DataEntry, LossEntry
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.records.training import FinetuneMeasurements
from mergekit_geo.views.block import Block, Items, Paragraph, Section, Table, table
from mergekit_geo.views.chart import number
from mergekit_geo.views.numbers import estimate, metric, share_difference, with_interval

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
