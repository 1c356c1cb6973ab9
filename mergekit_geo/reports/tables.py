"""Rows of the tables that the console and the model card share."""

from __future__ import annotations

from mergekit_geo.reports.schema import DifferenceEntry, LossEntry, MergeMeasurements, Report


def loss_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """Model, loss, perplexity, and the output's difference from it, one row a model."""
    if not isinstance(report.result, MergeMeasurements):
        return []
    differences = {entry.model: entry for entry in report.result.differences}
    return [
        (
            entry.model,
            with_interval(entry),
            f"{entry.perplexity:.4g}",
            _difference(differences.get(entry.model)) if entry.role == "parent" else "",
        )
        for entry in report.result.losses
    ]


def with_interval(entry: LossEntry) -> str:
    """A loss for people."""
    if entry.low is None:
        return f"{entry.loss:.4f}"
    return f"{entry.loss:.4f} [{entry.low:.4f}, {entry.high:.4f}]"


def _difference(entry: DifferenceEntry | None) -> str:
    if entry is None:
        return ""
    if entry.low is None:
        return f"{entry.value:+.4f}"
    return f"{entry.value:+.4f} [{entry.low:+.4f}, {entry.high:+.4f}]"


def verdict(report: Report) -> str:
    """What the losses say, in words; empty where none were measured."""
    if not isinstance(report.result, MergeMeasurements) or not report.result.differences:
        return ""
    differences = report.result.differences
    losses = {entry.model: entry.loss for entry in report.result.losses if entry.role == "parent"}
    best = min(differences, key=lambda entry: losses[entry.model])
    if all(entry.significant and entry.value < 0 for entry in differences):
        return (
            f"The output is better than every parent: {-best.value:.4f} nats below the best, "
            f"{best.model}."
        )
    if best.significant is None:
        return "Too few documents to tell the output from the best parent."
    if not best.significant:
        return f"No significant difference from the best parent, {best.model}."
    side = "better" if best.value < 0 else "worse"
    return (
        f"The output is {side} than the best parent, {best.model}, by {abs(best.value):.4f} nats."
    )
