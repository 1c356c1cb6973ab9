"""A report in a few lines, as `print` shows a result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.model import CheckMeasurements
from mergekit_geo.records.push import PushMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.records.training import FinetuneMeasurements
from mergekit_geo.views.losses import loss_table
from mergekit_geo.views.verdict import verdict
from mergekit_geo.views.view import view_of


def said(report: Report) -> str:
    """What was found, in a few lines: a view's headline, or what says more for who has no page."""
    show = SAID.get(type(report.result))
    lines = view_of(report).headline if show is None else show(report, report.result)
    return "\n".join(lines) or report.command


def _losses(report: Report) -> list[str]:
    rows = ["  ".join(row) for row in loss_table(report).rows]
    return rows + [text for text in [verdict(report)] if text]


def _merge(report: Report, found: MergeMeasurements) -> list[str]:
    place = f"-> {report.output}" if report.output else "in memory"
    models = ", ".join(model.name for model in report.models)
    return [f"{found.coefficients.method} of {models} {place}", *_losses(report)]


def _finetune(report: Report, found: FinetuneMeasurements) -> list[str]:
    return [f"{report.models[0].name}, fine-tuned -> {report.output}", *_losses(report)]


def _check(report: Report, found: CheckMeasurements) -> list[str]:
    verdict = "can be merged" if found.compatible else "cannot be merged"
    return [f"the models {verdict}", *found.problems, *found.notes]


def _push(report: Report, found: PushMeasurements) -> list[str]:
    return [f"{report.output} -> {found.url} at {found.commit}"]


SAID: dict[type, Callable[[Report, Any], list[str]]] = {
    MergeMeasurements: _merge,
    FinetuneMeasurements: _finetune,
    CheckMeasurements: _check,
    PushMeasurements: _push,
}
