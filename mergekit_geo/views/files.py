"""A report as files in its folder: for programs, for a browser, as pictures, as a model card."""

from __future__ import annotations

import json
from pathlib import Path

from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.report import REPORT, Report
from mergekit_geo.views.block import (
    FIGURES,
    Block,
    Code,
    Folded,
    Items,
    Paragraph,
    Section,
    Table,
    View,
    charts,
)
from mergekit_geo.views.card import model_card
from mergekit_geo.views.chart import Picture
from mergekit_geo.views.html import Page
from mergekit_geo.views.losses import WITH_OUTPUT
from mergekit_geo.views.made import made
from mergekit_geo.views.view import not_measured, view_of

PAGE = "report.html"
CARD = "README.md"


def write_report(report: Report, folder: Path) -> None:
    """Write `report.json`, and all that is drawn from it.

    Args:
        report: Of any command.
        folder: A folder that is there.
    """
    (folder / REPORT).write_text(report.to_json(), "utf-8")
    write_page(report, folder / PAGE)
    write_figures(view_of(report), folder / FIGURES)
    if isinstance(report.result, WITH_OUTPUT):
        (folder / CARD).write_text(model_card(report), "utf-8")


def write_page(report: Report, path: Path) -> None:
    """Write the page of a report."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(page(report).pieces())


def write_figures(view: View, folder: Path) -> None:
    """Write the numbers for programs, then the pictures, into a folder that is made for them."""
    pictures = [chart for chart in charts(view.blocks) if chart.name]
    if not pictures and not view.files:
        return
    folder.mkdir(exist_ok=True)
    for name, make in view.files.items():
        (folder / name).write_bytes(make())
    for chart in pictures:
        draw(chart.picture, folder / chart.name)


def draw(picture: Picture, stem: Path) -> None:
    """Draw a picture into files."""
    from mergekit_geo.views.matplotlib_.draw import (
        save,  # takes time that other outputs have no use for
    )

    save(picture, stem)


def page(report: Report) -> Page:
    """The page of a report.

    Args:
        report: Of any command.
    """
    view = view_of(report)
    names = ", ".join(model.name for model in report.models if model.role == "parent")
    warnings = Section("Warnings", [Items(report.warnings)])
    return Page(
        title=report.output or f"geo-merge {report.command}",
        about=f"geo-merge {report.command} of {names}",
        source=REPORT if report.output else "",
        headline=[*view.headline, view.next, view.last],
        blocks=[
            *view.blocks,
            Section("How it was made", made(report)),
            not_measured(report),
            warnings,
            _provenance(report),
        ],
        data=json.dumps(json.loads(report.to_json()), separators=(",", ":")),
    )


def _provenance(report: Report) -> Section:
    """Origin of a report: models, command, time, machine, settings."""
    rows = [[model.name, model.revision or "", f"{model.parameters:,}"] for model in report.models]
    blocks: list[Block] = [Table(["model", "commit", "parameters"], rows)]
    if (own := report.provenance) is not None:
        place = ", ".join(part for part in (own.device, own.dtype, own.attention) if part)
        when = f"{own.started}, {own.seconds:.1f} s"
        shown = [] if isinstance(report.result, MergeMeasurements) else [Code(own.command)]
        blocks += [
            *shown,
            Paragraph(f"{when}; run on {place}" if place else when),
            Folded("versions", [Code(json.dumps(own.versions, indent=1), "json")]),
        ]
    blocks.append(Folded("settings", [Code(json.dumps(report.settings, indent=1), "json")]))
    if report.data is not None:
        blocks.append(Folded("data", [Code(report.data.model_dump_json(indent=1), "json")]))
    return Section("Where this comes from", blocks)
