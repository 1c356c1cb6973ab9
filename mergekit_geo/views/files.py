"""A report as files in its folder: for programs, for a browser, as pictures, as a model card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mergekit_geo.records.barrier import BarrierEntry, BarrierMeasurements
from mergekit_geo.records.landscape import LandscapeMeasurements
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.path import PathMeasurements
from mergekit_geo.records.reading import REPORT
from mergekit_geo.records.report import Report
from mergekit_geo.records.training import FinetuneMeasurements
from mergekit_geo.views.card import model_card
from mergekit_geo.views.finetune_card import finetune_card
from mergekit_geo.views.html_report import write_page

CARD, FIGURES = "README.md", "figures"
CARDS: dict[type, Callable[[Report], str]] = {
    MergeMeasurements: model_card,
    FinetuneMeasurements: finetune_card,
}
PAIR = 2


def write_report(report: Report, folder: Path) -> None:
    """Write `report.json`, and all that is drawn from it.

    Args:
        report: Of any command.
        folder: A folder that is there.
    """
    (folder / REPORT).write_text(report.to_json(), "utf-8")
    write_page(report, folder)
    _write_figures(report, folder / FIGURES)
    if card := CARDS.get(type(report.result)):
        (folder / CARD).write_text(card(report), "utf-8")


def _barriers(result: Any) -> list[BarrierEntry]:
    """The curves that a result holds."""
    if isinstance(result, BarrierMeasurements):
        return result.pairs
    if isinstance(result, PathMeasurements):
        return [result.straight, result.fitted]
    found: list[BarrierEntry] = getattr(result, "barriers", [])
    return found


def _write_figures(report: Report, folder: Path) -> None:
    """Draw what was measured, into a folder that is made for it."""
    result: Any = report.result
    if isinstance(result, LandscapeMeasurements):
        from mergekit_geo.views.landscape_figures import write_landscape

        folder.mkdir(exist_ok=True)
        write_landscape(report, folder)
        return
    barriers = _barriers(result)
    sharpness = getattr(result, "sharpness", [])
    if not barriers and not sharpness:
        return
    from mergekit_geo.views.figures import write_barriers, write_matrix, write_sharpness

    folder.mkdir(exist_ok=True)
    if barriers:
        write_barriers(barriers, folder)
    if isinstance(result, BarrierMeasurements) and len(result.losses) > PAIR:
        write_matrix(result, folder)
    if sharpness:
        write_sharpness(sharpness, folder)
