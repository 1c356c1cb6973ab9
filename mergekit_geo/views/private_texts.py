"""What a report says of data that is not published, and must not publish itself."""

from __future__ import annotations

from typing import Any

from mergekit_geo.config.data import BUILTINS
from mergekit_geo.records.examples import ExamplesEntry
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.report import Report


def is_public(data: DataEntry) -> bool:
    """Whether data is built in, or a dataset of the Hub."""
    return data.repository is not None or data.source in BUILTINS


def is_all_public(report: Report) -> bool:
    """Whether that holds of all sets of a report; of a function of the caller's it does not."""
    sets = getattr(report.result, "sets", {}).values()
    every = [one.data for one in sets] or ([report.data] if report.data else [])
    return all(is_public(data) for data in every)


def without_private_texts(report: Report) -> Report:
    """The report without texts of examples whose data is not public; itself if it has none.

    Args:
        report: Of any command.
    """
    result = report.result
    if not isinstance(result, MergeMeasurements) or is_all_public(report):
        return report
    changes: dict[str, Any] = {}
    if result.examples and report.data and not is_public(report.data):
        changes["examples"] = _bare(result.examples)
    if result.sets:
        changes["sets"] = {
            name: one
            if one.examples is None or is_public(one.data)
            else one.model_copy(update={"examples": _bare(one.examples)})
            for name, one in result.sets.items()
        }
    found = report.model_copy(update={"result": result.model_copy(update=changes)})
    return report if found == report else found


def _bare(found: ExamplesEntry) -> ExamplesEntry:
    telling = [one.model_copy(update={"text": None}) for one in found.telling]
    return found.model_copy(update={"telling": telling})
