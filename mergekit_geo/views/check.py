"""Whether models can be merged."""

from __future__ import annotations

from mergekit_geo.records.model import CheckMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.views.block import Items, Section, View

MOST = 10
"""Problems that are shown."""


def view(report: Report, found: CheckMeasurements) -> View:
    """View of a check: why models cannot be merged, and what differs without harm."""
    problems = [f"problem: {problem}" for problem in found.problems[:MOST]]
    if len(found.problems) > MOST:
        problems.append(f"... and {len(found.problems) - MOST} more (--json has all)")
    names = ", ".join(model.name for model in report.models)
    verdict = "can be merged" if found.compatible else "cannot be merged"
    notes = [f"note: {note}" for note in found.notes]
    blocks = [Section("Notes", [Items(notes)]), Section("Problems", [Items(problems)])]
    return View([f"{names}: {verdict} ({found.tensors} tensors)"], blocks)
