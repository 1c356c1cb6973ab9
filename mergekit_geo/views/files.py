"""A report as files in its folder: for programs, for a browser, as pictures, as a model card."""

from __future__ import annotations

from pathlib import Path

from mergekit_geo.records.reading import REPORT
from mergekit_geo.records.report import Report
from mergekit_geo.views.block import View, charts
from mergekit_geo.views.card import model_card
from mergekit_geo.views.losses import WITH_OUTPUT
from mergekit_geo.views.page import page
from mergekit_geo.views.view import view_of

PAGE = "report.html"
CARD = "README.md"
FIGURES = "figures"


def write_report(report: Report, folder: Path) -> None:
    """Write `report.json`, and all that is drawn from it.

    Args:
        report: Of any command.
        folder: A folder that is there.
    """
    (folder / REPORT).write_text(report.to_json(), "utf-8")
    with (folder / PAGE).open("w", encoding="utf-8") as file:
        file.writelines(page(report).pieces())
    write_figures(view_of(report), folder / FIGURES)
    if isinstance(report.result, WITH_OUTPUT):
        (folder / CARD).write_text(model_card(report), "utf-8")


def write_figures(view: View, folder: Path) -> None:
    """Write the numbers for programs, then the pictures, into a folder that is made for them."""
    pictures = [chart for chart in charts(view.blocks) if chart.name]
    if not pictures and not view.files:
        return
    from mergekit_geo.views.matplotlib_ import save  # takes time that other outputs have no use for

    folder.mkdir(exist_ok=True)
    for name, make in view.files.items():
        (folder / name).write_bytes(make())
    for chart in pictures:
        save(chart.picture, folder / chart.name)
