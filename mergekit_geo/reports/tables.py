"""Rows of the tables that the console and the model card share."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.reports.losses import BarrierEntry, EstimateEntry, LossEntry
from mergekit_geo.reports.measures import MEASURES
from mergekit_geo.reports.path import PathMeasurements
from mergekit_geo.reports.schema import DataEntry, DifferenceEntry, MergeMeasurements, Report
from mergekit_geo.reports.sharpness import SharpnessEntry


def loss_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Head and rows: model, loss, what else the task has, and the output's difference from it."""
    if not isinstance(report.result, MergeMeasurements) or report.data is None:
        return [], []
    result = report.result
    head, rows = model_table(result.losses, report.data)
    differences = {entry.model: entry for entry in result.differences}
    for row, entry in zip(rows, result.losses, strict=True):
        row.append("" if entry.role == "output" else _difference(differences.get(entry.model)))
    return [*head, "output minus it"], rows


def model_table(losses: Sequence[LossEntry], data: DataEntry) -> tuple[list[str], list[list[str]]]:
    """Head and rows of models alone; columns that hold nothing are left out."""
    columns = {
        "model": [entry.model for entry in losses],
        _loss_name(data): [with_interval(entry) for entry in losses],
        "perplexity": [_number(entry.perplexity, ".4g") for entry in losses],
        data.metric or "score": [_number(entry.metric, ".4f") for entry in losses],
        "macro-F1": [_number(entry.macro_f1, ".4f") for entry in losses],
    }
    kept = {name: cells for name, cells in columns.items() if any(cells)}
    return list(kept), [list(row) for row in zip(*kept.values(), strict=True)]


def barrier_rows(entries: Sequence[BarrierEntry]) -> list[list[str]]:
    """Models, kind of path, barrier with its interval, and where it is highest."""
    return [
        [
            entry.first,
            entry.second,
            entry.along,
            estimate(entry.barrier),
            _number(entry.t_max, ".3f"),
        ]
        for entry in entries
    ]


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
        f"documents, {slope.dtype}, {extremes.method}; ± residual of an eigenvalue, standard error "
        f"of a trace or mean; SAM sharpness within {first.rho:g} (a lower bound)"
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
            remarks.append(f"{entry.model}: λ_max has not converged in {extremes.steps} steps")
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


def _difference(entry: DifferenceEntry | None) -> str:
    return "" if entry is None else estimate(entry)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _loss_name(data: DataEntry) -> str:
    return f"loss per {data.unit}"


def verdict(report: Report) -> str:
    """What the losses say, in words; empty where none were measured."""
    if not isinstance(report.result, MergeMeasurements) or not report.result.differences:
        return ""
    losses = {entry.model: entry.loss for entry in report.result.losses if entry.role == "parent"}
    differences = [entry for entry in report.result.differences if entry.model in losses]
    best = min(differences, key=lambda entry: losses[entry.model])
    if all(entry.significant and entry.value < 0 for entry in differences):
        return (
            f"The output is better than every parent: {-best.value:.4f} below the best, "
            f"{best.model}."
        )
    if best.significant is None:
        return "Too few documents to tell the output from the best parent."
    if not best.significant:
        return f"No significant difference from the best parent, {best.model}."
    side = "better" if best.value < 0 else "worse"
    return f"The output is {side} than the best parent, {best.model}, by {abs(best.value):.4f}."


def is_not_worse(report: Report) -> bool:
    """Whether losses tell that the output is not significantly worse than the best parent."""
    text = verdict(report)
    return bool(text) and not text.startswith("Too few") and " is worse than " not in text
