"""`report.html`: a report as a page, drawn from it and from nothing else."""

from __future__ import annotations

import json

from mergekit_geo.records.report import Report
from mergekit_geo.views.block import Block, Code, Folded, Items, Paragraph, Section, Table
from mergekit_geo.views.html import Page
from mergekit_geo.views.view import not_measured, view_of


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
        headline=view.headline,
        blocks=[*view.blocks, not_measured(report), warnings, _provenance(report)],
        data=report.to_json(),
    )


def _provenance(report: Report) -> Section:
    """Origin of a report: models, command, time, machine, settings."""
    rows = [[model.name, model.revision or "", f"{model.parameters:,}"] for model in report.models]
    blocks: list[Block] = [Table(["model", "commit", "parameters"], rows)]
    if (own := report.provenance) is not None:
        place = ", ".join(part for part in (own.device, own.dtype, own.attention) if part)
        when = f"{own.started}, {own.seconds:.1f} s"
        blocks += [
            Code(own.command),
            Paragraph(f"{when}; run on {place}" if place else when),
            Folded("versions", [Code(json.dumps(own.versions, indent=1), "json")]),
        ]
    blocks.append(Folded("settings", [Code(json.dumps(report.settings, indent=1), "json")]))
    if report.data is not None:
        blocks.append(Folded("data", [Code(report.data.model_dump_json(indent=1), "json")]))
    return Section("Where this comes from", blocks)
