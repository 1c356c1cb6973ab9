"""A search over recipes: what was tried, the best of it, and what that is worth."""

from __future__ import annotations

from mergekit_geo.records.report import Report
from mergekit_geo.records.search import SearchMeasurements
from mergekit_geo.views.block import View
from mergekit_geo.views.sets import models_by_set


def view(report: Report, found: SearchMeasurements) -> View:
    """View of a search that wrote no merge."""
    return View([], [models_by_set("Losses", found.sets, found.losses, report.data)])
