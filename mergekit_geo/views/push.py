"""An output that is on the Hub."""

from __future__ import annotations

from mergekit_geo.records.push import PushMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.units import in_gigabytes
from mergekit_geo.views.block import Code, Paragraph, View


def view(report: Report, found: PushMeasurements) -> View:
    """View of a push: where the output is, and that it is there as it is on the disk."""
    size = in_gigabytes(found.size)
    there = f"{found.files} files, {size}, are there as they are on the disk (sizes and hashes)"
    place = f"pushed to {found.url} (commit {found.commit})"
    return View((), [Paragraph(there), Code(place, "")])
