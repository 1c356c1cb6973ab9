"""A report in a few lines, as `print` shows a result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mergekit_geo.records.barrier import BarrierMeasurements
from mergekit_geo.records.curvature import SharpnessMeasurements
from mergekit_geo.records.landscape import LandscapeMeasurements
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.model import CheckMeasurements
from mergekit_geo.records.path import PathMeasurements
from mergekit_geo.records.push import PushMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.records.training import FinetuneMeasurements
from mergekit_geo.views.landscape import landscape_lines
from mergekit_geo.views.losses import loss_table
from mergekit_geo.views.verdict import verdict


def said(report: Report) -> str:
    """What was found, in a few lines; what nothing is known of, by its command."""
    show = SAID.get(type(report.result))
    return report.command if show is None else "\n".join(show(report, report.result))


def _losses(report: Report) -> list[str]:
    rows = ["  ".join(row) for row in loss_table(report).rows]
    return rows + [text for text in [verdict(report)] if text]


def _merge(report: Report, found: MergeMeasurements) -> list[str]:
    place = f"-> {report.output}" if report.output else "in memory"
    models = ", ".join(model.name for model in report.models)
    return [f"{found.coefficients.method} of {models} {place}", *_losses(report)]


def _finetune(report: Report, found: FinetuneMeasurements) -> list[str]:
    return [f"{report.models[0].name}, fine-tuned -> {report.output}", *_losses(report)]


def _barrier(report: Report, found: BarrierMeasurements) -> list[str]:
    return [f"{one.first} to {one.second}, {one.along}: {one.verdict}" for one in found.pairs]


def _path(report: Report, found: PathMeasurements) -> list[str]:
    fitted = f"{found.kind}, {found.steps} steps: {found.fitted.verdict}"
    return [f"straight: {found.straight.verdict}", fitted]


def _sharpness(report: Report, found: SharpnessMeasurements) -> list[str]:
    return [
        f"{one.model}: λ_max {one.extremes.largest.value:.4g}, {one.stationarity.sentence}"
        for one in found.sharpness
    ]


def _landscape(report: Report, found: LandscapeMeasurements) -> list[str]:
    return landscape_lines(found)


def _check(report: Report, found: CheckMeasurements) -> list[str]:
    verdict = "can be merged" if found.compatible else "cannot be merged"
    return [f"the models {verdict}", *found.problems, *found.notes]


def _push(report: Report, found: PushMeasurements) -> list[str]:
    return [f"{report.output} -> {found.url} at {found.commit}"]


SAID: dict[type, Callable[[Report, Any], list[str]]] = {
    MergeMeasurements: _merge,
    FinetuneMeasurements: _finetune,
    BarrierMeasurements: _barrier,
    PathMeasurements: _path,
    SharpnessMeasurements: _sharpness,
    LandscapeMeasurements: _landscape,
    CheckMeasurements: _check,
    PushMeasurements: _push,
}
