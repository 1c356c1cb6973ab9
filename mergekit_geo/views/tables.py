"""Rows of the tables that the console and the model card share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.curvature import SharpnessEntry
from mergekit_geo.records.losses import DataEntry, DifferenceEntry, EstimateEntry, LossEntry
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.path import PathMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.records.training import FinetuneMeasurements, MembersMeasurements, TrainingEntry
from mergekit_geo.views.measures import MEASURES

WITH_OUTPUT = MergeMeasurements | FinetuneMeasurements
"""Results of commands that write a model."""


def loss_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Head and rows: model, loss, what else the task has, and the output's difference from it."""
    result = report.result
    if not isinstance(result, WITH_OUTPUT) or report.data is None or not result.losses:
        return [], []
    head, rows = model_table(result.losses, report.data)
    differences = {entry.model: entry for entry in result.differences}
    found = [
        None if entry.role == "output" else differences.get(entry.model) for entry in result.losses
    ]
    columns = {
        "output minus it": [_difference(entry) for entry in found],
        f"{(report.data.metric or 'score').rpartition(' ')[2]} difference": [
            _share_difference(entry and entry.metric) for entry in found
        ],
        "macro-F1 difference": [_share_difference(entry and entry.macro_f1) for entry in found],
    }
    kept = {name: cells for name, cells in columns.items() if any(cells)}
    cells = zip(rows, zip(*kept.values(), strict=True), strict=True) if kept else ()
    return [*head, *kept], [[*row, *more] for row, more in cells] or rows


def model_table(losses: Sequence[LossEntry], data: DataEntry) -> tuple[list[str], list[list[str]]]:
    """Head and rows of models alone; columns that hold nothing are left out."""
    columns = {
        "model": [entry.model for entry in losses],
        _loss_name(data): [with_interval(entry) for entry in losses],
        "perplexity": [_number(entry.perplexity, ".4g") for entry in losses],
        data.metric or "score": [_metric(entry) for entry in losses],
        "macro-F1": [_number(entry.macro_f1, ".4f") for entry in losses],
    }
    kept = {name: cells for name, cells in columns.items() if any(cells)}
    return list(kept), [list(row) for row in zip(*kept.values(), strict=True)]


def members_table(found: MembersMeasurements) -> tuple[list[str], list[list[str]]]:
    """Head and rows of members: seed, losses before and after, sharpness before and after."""
    head = ["member", "seed", "training loss", "loss before", "after", "after minus before"]
    rows = [
        [
            member.folder,
            str(member.seed),
            f"{member.measured.training.history[-1][1]:.4f}",
            *([with_interval(entry) for entry in member.measured.losses] or ["", ""]),
            *([estimate(entry) for entry in member.measured.differences] or [""]),
            *[f"{entry.extremes.largest.value:.4g}" for entry in member.measured.sharpness],
        ]
        for member in found.members
    ]
    sharp = ["λ_max before", "after"] if len(rows[0]) > len(head) else []
    return [*head, *sharp], rows


def barrier_rows(entries: Sequence[BarrierEntry]) -> list[list[str]]:
    """Models, kind of path, barrier or dip with its interval, and where that is."""
    return [[entry.first, entry.second, entry.along, *_height(entry)] for entry in entries]


def _height(entry: BarrierEntry) -> tuple[str, str]:
    """The barrier and its place; the dip and its place where the path lies below its ends."""
    value, dip = entry.barrier.value, entry.dip
    if value is None or value >= 0:
        return estimate(entry.barrier), _number(entry.t_max, ".3f")
    if dip is None or dip.value is None or dip.high is None or dip.high >= 0:
        return f"none ({estimate(entry.barrier)})", _number(entry.t_max, ".3f")
    assert dip.low is not None, "an end without the other"
    size = f"{-dip.value:.4f} [{-dip.high:.4f}, {-dip.low:.4f}]"
    return f"none (dips {size})", _number(entry.t_dip, ".3f")


def describe_barriers(entries: Sequence[BarrierEntry]) -> str:
    """What the losses along paths are of, in a line; empty where reports do not tell."""
    count = _documents(entries)
    if count is None:
        return ""
    return (
        f"loss along the paths on {count} documents, the report half; each t was chosen on the "
        "other half"
    )


def loss_axis(entries: Sequence[BarrierEntry]) -> str:
    """Label of a picture's loss axis, with the number of documents."""
    count = _documents(entries)
    return "loss" if count is None else f"loss ({count} documents, report half)"


def _documents(entries: Sequence[BarrierEntry]) -> int | None:
    """How many documents paths were measured on; None where reports do not tell, or differ."""
    found = {entry.documents for entry in entries}
    return found.pop() if len(found) == 1 else None


def sharpness_table(entries: Sequence[SharpnessEntry]) -> tuple[list[str], list[list[str]]]:
    """Head and rows: model, and every measure that some model has."""
    columns = {"model": [entry.model for entry in entries]}
    columns |= {m.title: [m.text(entry) for entry in entries] for m in MEASURES}
    kept = {name: cells for name, cells in columns.items() if any(cells)}
    return list(kept), [list(row) for row in zip(*kept.values(), strict=True)]


def describe_sharpness(entries: Sequence[SharpnessEntry], unit: str) -> list[str]:
    """How sharpness was measured, in lines; the models share sample and settings."""
    first = entries[0]
    slope, extremes = first.slope, first.extremes
    count = "" if unit == "example" else f"{slope.tokens} {unit}s, "
    lines = [
        f"sharpness ({first.level}) on {count}{slope.examples} examples, {slope.documents} "
        f"documents, {slope.dtype}, {extremes.method}; ± standard error, of an eigenvalue over "
        f"documents (or its residual, if larger); SAM sharpness within {first.rho:g} (a lower "
        "bound)"
    ]
    if first.level == "full":
        lines.append(
            f"adaptive: worst within {first.adaptive_rho:g} of |θ| (a lower bound), mean under "
            f"noise of {first.noise:g} |θ|"
        )
    return [*lines, *_remarks(entries)]


def _remarks(entries: Sequence[SharpnessEntry]) -> list[str]:
    """What a reader of the numbers must know of single models."""
    remarks = []
    for entry in entries:
        extremes = entry.extremes
        if not extremes.largest.converged:
            remarks.append(
                f"{entry.model}: λ_max has not converged in {extremes.steps} steps: it is a lower "
                f"bound, with a residual of {extremes.largest.residual:.1g}"
            )
        if extremes.smallest and not extremes.smallest.converged:
            remarks.append(f"{entry.model}: λ_min has not converged in {extremes.steps} steps")
        if extremes.reason:
            remarks.append(f"{entry.model}: {extremes.method}: {extremes.reason}")
        if extremes.step_error is not None and extremes.step_error > ROUGH:
            remarks.append(
                f"{entry.model}: half the step of the differences changes λ_max by "
                f"{extremes.step_error:.0%}: --level full takes exact products"
            )
    return remarks


ROUGH = 0.01
"""Relative change of an eigenvalue under half the step that is worth a remark."""


def path_lines(found: PathMeasurements) -> list[str]:
    """What a fitted path is, in words."""
    bends = "one bend" if found.bends == 1 else f"{found.bends} bends"
    lines = [
        f"straight: {found.straight.verdict}",
        f"{found.kind}, {bends}, {found.steps} steps: {found.fitted.verdict}",
        f"the path is {found.length_ratio:.2f} times as long as the straight line; its loss is "
        f"lowest at t = {found.lowest_t:.3f}",
    ]
    if found.saddle is not None:
        height = found.saddle.loss.value
        lines.append(f"its highest point is a loss of {height:.4f} at t = {found.saddle.t:.3f}")
    elif found.kind == "neb":
        lines.append("no saddle: nothing on the way is higher than its ends")
    if found.removed is not None:
        lines.append(f"it avoids {found.removed:.0%} of the barrier")
    return lines


def training_lines(found: TrainingEntry) -> list[str]:
    """How a model was trained, in words."""
    first, last = found.history[0], found.history[-1]
    examples = f"{found.batches} x {found.batch_size} examples"
    share = examples if found.batch_size else f"{found.batches} batches of the caller's"
    adapters = f" in adapters of rank {found.lora_rank}" if found.lora_rank else ""
    lines = [
        f"{found.optimizer}, {found.steps} steps of {share} ({found.epochs:.2f} epochs), learning "
        f"rate {found.learning_rate:.3g}",
        f"{found.trained:,} weights{adapters} trained in float32, stored in the output's dtype",
        f"training loss {first[1]:.4f} up to step {first[0]}, {last[1]:.4f} at step {last[0]}",
        _ascent(found),
    ]
    if found.skipped:
        lines.append(f"{found.skipped} steps were skipped: a loss or gradient was not finite")
    return lines


def _ascent(found: TrainingEntry) -> str:
    if not found.rho:
        return f"SAM off (rho 0); {found.passes} backward passes"
    kind = "adaptive SAM" if found.adaptive else "SAM"
    often = "every step" if found.every == 1 else f"every {found.every} steps"
    return (
        f"{kind}, rho {found.rho:g}, {often}, {found.mode} ascent: {found.ascents} ascents, "
        f"{found.passes} backward passes"
    )


BARRIER_HEAD = ["from", "to", "along", "barrier", "at t"]


def describe_data(data: DataEntry) -> str:
    """What was measured on, in a line."""
    half = " of the report half" if data.half else ""
    unit = f"{data.tokens} {data.unit}s, " if data.unit != "example" else ""
    return f"{data.source}: {unit}{data.examples} examples, {data.documents} documents{half}"


def with_interval(entry: LossEntry) -> str:
    """A loss for people."""
    if entry.low is None:
        return f"{entry.loss:.4f}"
    return f"{entry.loss:.4f} [{entry.low:.4f}, {entry.high:.4f}]"


def estimate(found: EstimateEntry | DifferenceEntry) -> str:
    """A signed number and its interval for people."""
    if found.value is None:
        return "not a number"
    if found.low is None:
        return f"{found.value:+.4f}"
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def _metric(entry: LossEntry) -> str:
    if entry.metric is None or entry.metric_low is None:
        return _number(entry.metric, ".4f")
    assert entry.metric_high is not None, "an end without the other"
    return _share(entry.metric, entry.metric_low, entry.metric_high, ".4f")


def _share(value: float, low: float, high: float, form: str) -> str:
    """A share for people, in little room where its interval has it in the middle."""
    if math.isclose(value - low, high - value, abs_tol=1e-6):
        return f"{value:{form}} ± {value - low:.4f}"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def _share_difference(entry: DifferenceEntry | EstimateEntry | None) -> str:
    if entry is None or entry.value is None or entry.low is None or entry.high is None:
        return _difference(entry)
    return _share(entry.value, entry.low, entry.high, "+.4f")


def _difference(entry: DifferenceEntry | EstimateEntry | None) -> str:
    return "" if entry is None else estimate(entry)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _loss_name(data: DataEntry) -> str:
    return f"loss per {data.unit}"
