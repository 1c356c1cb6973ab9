"""Losses of models side by side, and what they were measured on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from mergekit_geo.records.escape import EscapeMeasurements
from mergekit_geo.records.losses import DataEntry, DifferenceEntry, Estimate, LossEntry
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.records.training import FinetuneMeasurements
from mergekit_geo.views.block import Block, Chart, Items, Paragraph, Section, Table, table
from mergekit_geo.views.chart import Dot, Dots, Panel, number, short_name
from mergekit_geo.views.tokenization import tokenization_blocks

WITH_OUTPUT = MergeMeasurements | FinetuneMeasurements | EscapeMeasurements
"""Results of commands that write a model."""
INTERVALS = "[..] and ± are 95 % intervals over documents"
ARROWS = "↓ lower is better, ↑ higher is better"


def models_section(title: str, losses: Sequence[LossEntry], data: DataEntry | None) -> Section:
    """Losses of models, beside another measurement; empty without data."""
    return Section(title, _blocks(data, model_table(losses, data)) if data else ())


def losses_section(title: str, report: Report) -> Section:
    """Losses of models, and the output's differences from them; empty without losses."""
    found = loss_table(report)
    if report.data is None or not found.rows:
        return Section(title, ())
    about, *blocks = _blocks(report.data, found, ", paired in the columns of differences")
    cut = report.result.tokenization if isinstance(report.result, MergeMeasurements) else []
    told = tokenization_blocks(cut, report.data.unit)
    return Section(title, [about, *loss_chart(report), *blocks, *told])


def _blocks(data: DataEntry, found: Table, more: str = "") -> list[Block]:
    intervals = f"{INTERVALS}{more}"
    arrows = ARROWS + ("; best in bold" if found.best else "")
    about = Paragraph(f"Measured on {describe_data(data)}; {intervals}. {arrows}.")
    return [about, Items([f"note: {note}" for note in data.notes]), found]


def loss_table(report: Report) -> Table:
    """Losses and scores of models, each with the output's difference from it before it."""
    result = report.result
    if not isinstance(result, WITH_OUTPUT) or report.data is None or not result.losses:
        return Table([], [])
    return difference_table(result.losses, result.differences, report.data)


def difference_table(
    entries: Sequence[LossEntry],
    differences: Sequence[DifferenceEntry],
    data: DataEntry,
    title: str = "output − model",
) -> Table:
    """Losses and scores of models on one set, each with the difference between it and another.

    Args:
        entries: The models.
        differences: At most one for each model.
        data: What was measured on.
        title: What is subtracted from what.
    """
    if not entries:
        return Table([], [])
    found, columns = _differences(entries, differences), _columns(entries, data)
    model, loss, other, score, macro, margin = columns.items()
    shown = dict([
        model,
        (f"Δ {title} ↓", [estimate(entry) for entry in found]),
        loss,
        (f"Δ {score[0]}", [share_difference(entry and entry.metric) for entry in found]),
        score,
        (f"Δ {macro[0]}", [share_difference(entry and entry.macro_f1) for entry in found]),
        macro,
        margin,
        other,
    ])  # fmt: skip
    return table(shown, _best(entries, columns))


def loss_chart(report: Report) -> list[Chart]:
    """Losses of models, and the output's differences from them, as dots with intervals.

    Nothing without an output that something is held against.
    """
    result, data = report.result, report.data
    if not isinstance(result, WITH_OUTPUT) or data is None or not result.differences:
        return []
    entries, found = result.losses, _differences(result.losses, result.differences)
    panels = [
        Panel(f"loss ({loss_unit(data)}) ↓", [dot(e.loss, e.low, e.high) for e in entries]),
        Panel("Δ loss, output − model ↓", [estimated(entry) for entry in found], 0.0),
    ]
    scores = [estimated(entry and entry.metric) for entry in found]
    if any(scores) and not any(entry.perplexity for entry in entries):
        panels.append(Panel(f"Δ {data.metric or 'score'} ↑", scores, 0.0))
    half = " of the report half" if data.half else ""
    caption = (
        f"Lines are 95 % intervals over {data.documents} documents{half}, of Δ on the same "
        "examples (paired): one that leaves the dotted line out is significant. Star: the output."
    )
    names = [short_name(entry.model) for entry in entries]
    picture = Dots(names, [entry.role == "output" for entry in entries], panels, caption)
    return [Chart(picture, "Losses, and the output's paired differences", "losses")]


def dot(value: float | None, low: float | None, high: float | None) -> Dot | None:
    """A number that can be drawn."""
    return None if value is None or not math.isfinite(value) else Dot(value, low, high)


def estimated(found: Estimate | DifferenceEntry | None) -> Dot | None:
    """An estimate that can be drawn."""
    return None if found is None else dot(found.value, found.low, found.high)


def _differences(
    losses: Sequence[LossEntry], differences: Sequence[DifferenceEntry]
) -> list[DifferenceEntry | None]:
    """The output's difference from each model that has a loss; None for itself."""
    known = {entry.model: entry for entry in differences}
    return [None if entry.role == "output" else known.get(entry.model) for entry in losses]


def loss_unit(data: DataEntry | None) -> str:
    """What loss is counted in."""
    if data is None:
        return "nats"
    if data.task == "sequence-classification" and not data.metric:
        return "squared error"
    return f"nats per {data.unit}"


def model_table(losses: Sequence[LossEntry], data: DataEntry) -> Table:
    """Losses and scores of models."""
    columns = _columns(losses, data)
    return table(columns, _best(losses, columns))


def _scale(data: DataEntry) -> str:
    """Title of the loss on another scale that is customary."""
    return "bits per byte ↓" if data.unit == "byte" else "perplexity ↓"


def rescaled(entry: LossEntry, data: DataEntry) -> float | None:
    """The loss in bits where it is per byte; else the perplexity, where there is one."""
    return entry.loss / math.log(2) if data.unit == "byte" else entry.perplexity


def _columns(losses: Sequence[LossEntry], data: DataEntry) -> dict[str, list[str]]:
    return {
        "model": [entry.model for entry in losses],
        f"loss per {data.unit} ↓": [with_interval(entry) for entry in losses],
        _scale(data): [number(rescaled(entry, data), ".4g") for entry in losses],
        f"{data.metric or 'score'} ↑": [metric(entry) for entry in losses],
        "macro-F1 ↑": [number(entry.macro_f1) for entry in losses],
        "margin ↑": [estimate(entry.margin) for entry in losses],
    }


def _best(losses: Sequence[LossEntry], columns: Iterable[str]) -> dict[str, set[int]]:
    """Rows of the lowest losses and of the highest scores, by the title of `_columns`."""
    if len(losses) == 1:
        return {}
    _, loss, other, score, macro, margin = columns
    signed: dict[str, list[float | None]] = {
        loss: [-entry.loss for entry in losses],
        other: [-entry.loss for entry in losses],
        score: [entry.metric for entry in losses],
        macro: [entry.macro_f1 for entry in losses],
        margin: [entry.margin.value if entry.margin else None for entry in losses],
    }
    return {title: _highest(values) for title, values in signed.items()}


def _highest(values: Sequence[float | None]) -> set[int]:
    most = max((value for value in values if value is not None), default=math.nan)
    return {row for row, value in enumerate(values) if value == most}


def describe_data(data: DataEntry) -> str:
    """Data that loss was measured on, in a line."""
    half = " of the report half" if data.half else ""
    unit = f"{data.tokens} {data.unit}s, " if data.unit != "example" else ""
    return f"{data.source}: {unit}{data.examples} examples, {data.documents} documents{half}"


def with_interval(entry: LossEntry) -> str:
    """A loss with its interval as text."""
    if not math.isfinite(entry.loss):
        return "not a number"
    if entry.low is None:
        return f"{entry.loss:.4f}"
    return f"{entry.loss:.4f} [{entry.low:.4f}, {entry.high:.4f}]"


def estimate(found: Estimate | DifferenceEntry | None) -> str:
    """A signed number with its interval as text; empty for None."""
    if found is None:
        return ""
    if found.value is None or not math.isfinite(found.value):
        return "not a number"
    if found.low is None:
        return f"{found.value:+.4f}"
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def metric(entry: LossEntry) -> str:
    """A model's score; empty where it has none."""
    if entry.metric is None or entry.metric_low is None:
        return number(entry.metric)
    assert entry.metric_high is not None, "an end without the other"
    return between(entry.metric, entry.metric_low, entry.metric_high, ".4f")


def share_difference(entry: Estimate | DifferenceEntry | None) -> str:
    """A difference of scores with its sign and interval; empty for None."""
    if entry is None or entry.value is None or entry.low is None or entry.high is None:
        return estimate(entry)
    return between(entry.value, entry.low, entry.high, "+.4f")


def between(value: float, low: float, high: float, form: str) -> str:
    """A number with its interval, by ± where that has it in the middle."""
    if math.isclose(value - low, high - value, abs_tol=1e-6):
        return f"{value:{form}} ± {value - low:.4f}"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"
