"""Rows of the tables that the console and the model card share."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.reports.finetune import FinetuneMeasurements, MembersMeasurements, TrainingEntry
from mergekit_geo.reports.losses import BarrierEntry, DifferenceEntry, EstimateEntry, LossEntry
from mergekit_geo.reports.measures import MEASURES
from mergekit_geo.reports.path import PathMeasurements
from mergekit_geo.reports.schema import DataEntry, MergeMeasurements, Report
from mergekit_geo.reports.sharpness import SharpnessEntry

WITH_OUTPUT = MergeMeasurements | FinetuneMeasurements
"""Results of commands that write a model."""


def loss_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Head and rows: model, loss, what else the task has, and the output's difference from it."""
    result = report.result
    if not isinstance(result, WITH_OUTPUT) or report.data is None or not result.losses:
        return [], []
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


def _difference(entry: DifferenceEntry | None) -> str:
    return "" if entry is None else estimate(entry)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _loss_name(data: DataEntry) -> str:
    return f"loss per {data.unit}"


def verdict(report: Report) -> str:
    """What the losses say, in words; empty where none were measured."""
    if isinstance(report.result, FinetuneMeasurements) and report.result.differences:
        return _change(report.result.differences[0])
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


def _change(entry: DifferenceEntry) -> str:
    """What fine-tuning did to the loss, in words."""
    if entry.significant is None:
        return f"Too few documents to tell the output from {entry.model}."
    if not entry.significant:
        return f"No significant difference from {entry.model}."
    side = "better" if entry.value < 0 else "worse"
    return f"The output is {side} than {entry.model} by {abs(entry.value):.4f}."


def is_not_worse(report: Report) -> bool:
    """Whether losses tell that the output is not significantly worse than the best parent."""
    text = verdict(report)
    return bool(text) and not text.startswith("Too few") and " is worse than " not in text
