"""The view of every record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mergekit_geo.records.barrier import BarrierMeasurements
from mergekit_geo.records.curvature import SharpnessMeasurements
from mergekit_geo.records.escape import EscapeMeasurements
from mergekit_geo.records.evaluation import EvaluationMeasurements
from mergekit_geo.records.landscape import LandscapeMeasurements
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.model import CheckMeasurements
from mergekit_geo.records.path import PathMeasurements
from mergekit_geo.records.plan import PlanMeasurements
from mergekit_geo.records.report import PushMeasurements, Report
from mergekit_geo.records.search import SearchMeasurements
from mergekit_geo.records.training import FinetuneMeasurements, MembersMeasurements
from mergekit_geo.views import (
    barriers,
    escape,
    evaluation,
    finetune,
    landscape,
    merge,
    path,
    plan,
    search,
    sharpness,
)
from mergekit_geo.views.block import Block, Code, Paragraph, Section, View
from mergekit_geo.views.next_step import next_line

VIEWS: dict[type, Callable[[Report, Any], View]] = {
    MergeMeasurements: merge.view,
    BarrierMeasurements: barriers.view,
    EvaluationMeasurements: evaluation.view,
    PathMeasurements: path.view,
    SharpnessMeasurements: sharpness.view,
    LandscapeMeasurements: landscape.view,
    FinetuneMeasurements: finetune.view,
    EscapeMeasurements: escape.view,
    MembersMeasurements: finetune.members_view,
    CheckMeasurements: plan.check_view,
    PushMeasurements: plan.push_view,
    PlanMeasurements: plan.view,
    SearchMeasurements: search.view,
}
"""A new kind of record is one file and one line here."""


def view_of(report: Report) -> View:
    """What is shown of a report's result; nothing where it has none."""
    if report.result is None:
        return View()
    return replace(VIEWS[type(report.result)](report, report.result), next=next_line(report))


def not_measured(report: Report) -> Section:
    """What the result does not hold, why, and the command that measures it."""
    blocks: list[Block] = []
    for item in report.not_measured:
        then = "; to measure it:" if item.command else ""
        blocks.append(Paragraph(f"not measured: {item.what} ({item.why}){then}"))
        blocks += [Code(item.command)] if item.command else []
    return Section("Not measured", blocks)


def said(report: Report) -> str:
    """A report in a few lines, as `print` shows a result."""
    view = view_of(report)
    lines = [*(view.brief or view.headline), *([view.last] if view.last else [])]
    return "\n".join(lines) or report.command
