"""`report.html`: a report as a page, drawn from it and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mergekit_geo.records.barrier import BarrierEntry, BarrierMeasurements
from mergekit_geo.records.curvature import CAVEATS, SharpnessEntry, SharpnessMeasurements
from mergekit_geo.records.landscape import LandscapeMeasurements
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.model import CheckMeasurements, Geometry
from mergekit_geo.records.path import PathMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.records.selection import SelectionEntry
from mergekit_geo.records.training import FinetuneMeasurements, MembersMeasurements
from mergekit_geo.views.charts import (
    barrier_chart,
    geometry_chart,
    matrix_chart,
    sharpness_chart,
    spectrum_chart,
)
from mergekit_geo.views.headline import headline
from mergekit_geo.views.landscape_chart import landscape_chart
from mergekit_geo.views.landscape_text import title_of
from mergekit_geo.views.page import Page, number, preformatted
from mergekit_geo.views.tables import (
    BARRIER_HEAD,
    barrier_rows,
    describe_barriers,
    describe_data,
    describe_sharpness,
    loss_table,
    model_table,
    sharpness_table,
    with_interval,
)

PAGE = "report.html"


def write_page(report: Report, folder: Path) -> None:
    """The page of a report, into the folder that holds it."""
    with (folder / PAGE).open("w", encoding="utf-8") as file:
        file.writelines(page(report).pieces(report.to_json()))


def page(report: Report) -> Page:
    """The page of a report.

    Args:
        report: Of any command.
    """
    found = Page(report.output or f"geo-merge {report.command}")
    names = ", ".join(model.name for model in report.models if model.role == "parent")
    found.paragraph(f"geo-merge {report.command} of {names}", "what")
    found.headline(headline(report))
    show = SECTIONS.get(type(report.result))
    if show is not None:
        show(found, report, report.result)
    _not_measured(found, report)
    _lines(found, "Warnings", report.warnings)
    _provenance(found, report)
    return found


def _merge(found: Page, report: Report, result: MergeMeasurements) -> None:
    if report.data is not None and result.losses:
        found.section("Losses")
        found.paragraph(_about(report) + "; those of differences are paired", "note")
        found.table(*loss_table(report))
    if result.selection is not None:
        _selection(found, result.selection)
    if result.barriers:
        _barrier_section(found, "Barriers", result.barriers)
    _sharpness_section(found, report, result.sharpness)
    if result.geometry is not None and len(report.models) > 1:
        _geometry(found, report, result.geometry)


def _barriers(found: Page, report: Report, result: BarrierMeasurements) -> None:
    found.section("Models")
    found.paragraph(_about(report), "note")
    if report.data is not None:
        found.table(*model_table(result.losses, report.data))
    _barrier_section(found, "Loss on the way", result.pairs)
    if len(result.losses) > 2:  # noqa: PLR2004
        found.section("Every pair")
        names = [entry.model for entry in result.losses]
        rows = [
            [name, *(number(x) for x in row)]
            for name, row in zip(names, result.matrix, strict=True)
        ]
        found.chart(matrix_chart(result), ["barrier", *names], rows)
        found.lines([f"basin: {', '.join(basin)}" for basin in result.basins])


def _path(found: Page, report: Report, result: PathMeasurements) -> None:
    found.section("Ends")
    found.paragraph(_about(report), "note")
    if report.data is not None:
        found.table(*model_table(result.losses, report.data))
    _barrier_section(found, "Straight, and fitted", [result.straight, result.fitted])
    found.folded("highest held-out loss while it was fitted", _history(result))


def _sharpness(found: Page, report: Report, result: SharpnessMeasurements) -> None:
    _sharpness_section(found, report, result.sharpness)


def _landscape(found: Page, report: Report, result: LandscapeMeasurements) -> None:
    found.section("Models")
    found.paragraph(_about(report), "note")
    if report.data is not None:
        found.table(*model_table(result.losses, report.data))
    for surface in result.surfaces:
        found.section(title_of(surface))
        rows = [
            [f"{x:.5g}", f"{y:.5g}", number(loss)]
            for y, row in zip(surface.y, surface.loss, strict=True)
            for x, loss in zip(surface.x, row, strict=True)
        ]
        found.chart(landscape_chart(surface, result.scale, report.data), ["x", "y", "loss"], rows)
    found.paragraph("landscape.html holds the same as a surface to turn.", "note")


def _finetune(found: Page, report: Report, result: FinetuneMeasurements) -> None:
    if result.losses:
        found.section("Losses before and after")
        found.paragraph(_about(report) + "; those of differences are paired", "note")
        found.table(*loss_table(report))
    if result.barriers:
        _barrier_section(found, "From before to after", result.barriers)
    _sharpness_section(found, report, result.sharpness)
    lines = [f"step {step}: {loss:.4f}" for step, loss in result.training.history]
    found.folded("training loss", preformatted("\n".join(lines)))


def _members(found: Page, report: Report, result: MembersMeasurements) -> None:
    found.section("Members")
    rows = [[m.folder, str(m.seed), _after(m.measured)] for m in result.members]
    found.table(["folder", "seed", "loss after"], rows)


def _after(measured: FinetuneMeasurements) -> str:
    outputs = [with_interval(entry) for entry in measured.losses if entry.role == "output"]
    return ", ".join(outputs)


def _check(found: Page, report: Report, result: CheckMeasurements) -> None:
    _lines(found, "Problems", result.problems)
    _lines(found, "Notes", result.notes)


def _history(result: PathMeasurements) -> str:
    lines = [f"step {step}: {loss:.4f}" for step, loss in result.history]
    return preformatted("\n".join(lines))


def _selection(found: Page, entry: SelectionEntry) -> None:
    found.section("What was chosen")
    found.paragraph(f"{entry.method}: {entry.chosen} (on {entry.documents} other documents)")
    rows = [[title, f"{loss:.4f}"] for title, loss in sorted(entry.steps)]
    found.table(["tried", "loss on the selection half"], rows)
    if entry.sharpness:
        rows = [[title, f"{value:.4g}"] for title, value in entry.sharpness]
        found.table(["compared", "λ_max"], rows)
    found.lines([f"left out: {name}" for name in entry.left_out])


def _barrier_section(found: Page, title: str, entries: Sequence[BarrierEntry]) -> None:
    found.section(title)
    if caption := describe_barriers(entries):
        found.paragraph(caption, "note")
    found.table(BARRIER_HEAD, barrier_rows(entries))
    rows = [
        [f"{e.first} to {e.second}, {e.along}", f"{t:.4f}", number(loss)]
        for e in entries
        for t, loss in zip(e.t, e.loss, strict=True)
    ]
    found.chart(barrier_chart(entries), ["path", "t", "loss"], rows)


def _sharpness_section(found: Page, report: Report, entries: Sequence[SharpnessEntry]) -> None:
    if not entries:
        return
    found.section("Sharpness")
    unit = report.data.unit if report.data else "example"
    first, *remarks = describe_sharpness(entries, unit)
    found.paragraph(first, "note")
    found.chart(sharpness_chart(entries), *sharpness_table(entries))
    found.lines([*remarks, *(f"{e.model}: {e.stationarity.sentence}" for e in entries)])
    spectra = [entry for entry in entries if entry.spectrum is not None]
    if spectra:
        found.chart(spectrum_chart(spectra), ["model", "eigenvalue", "share"], _spectrum(spectra))
    found.lines(CAVEATS)


def _spectrum(entries: Sequence[SharpnessEntry]) -> list[list[str]]:
    return [
        [entry.model, f"{value:.5g}", f"{share:.5f}"]
        for entry in entries
        if entry.spectrum is not None
        for value, share in zip(entry.spectrum.eigenvalues, entry.spectrum.cumulative, strict=True)
    ]


def _geometry(found: Page, report: Report, geometry: Geometry) -> None:
    found.section("Geometry, layer by layer")
    found.paragraph(
        "Cosine of every pair of models, and their distance over the mean of their norms.", "note"
    )
    names = [model.name for model in report.models]
    rows = [
        [layer.layer, names[p.first], names[p.second], number(p.cosine, ".6f"), f"{p.distance:.5g}"]
        for layer in geometry.layers
        for p in layer.pairs
    ]
    head = ["layer", "model", "model", "cosine", "distance"]
    found.chart(geometry_chart(geometry, names, "cosine"), head, rows)
    found.chart(geometry_chart(geometry, names, "distance"), head, rows)


def _not_measured(found: Page, report: Report) -> None:
    if not report.not_measured:
        return
    found.section("Not measured")
    for item in report.not_measured:
        found.paragraph(f"{item.what}: {item.why}")
        if item.command:
            found.parts.append(preformatted(item.command))


def _provenance(found: Page, report: Report) -> None:
    found.section("Where this comes from")
    rows = [[model.name, model.revision or "", f"{model.parameters:,}"] for model in report.models]
    found.table(["model", "commit", "parameters"], rows)
    if report.provenance is not None:
        own = report.provenance
        if own.command:
            found.parts.append(preformatted(own.command))
        run = [own.device, own.dtype, own.attention]
        place = ", ".join(part for part in run if part)
        when = f"{own.started}, {own.seconds:.1f} s"
        found.paragraph(f"{when}; run on {place}" if place else when)
        found.folded("versions", preformatted(json.dumps(own.versions, indent=1)))
    found.folded("settings", preformatted(json.dumps(report.settings, indent=1)))
    if report.data is not None:
        found.folded("data", preformatted(report.data.model_dump_json(indent=1)))


def _lines(found: Page, title: str, items: Sequence[str]) -> None:
    if items:
        found.section(title)
        found.lines(items)


def _about(report: Report) -> str:
    if report.data is None:
        return ""
    return f"{describe_data(report.data)}; [..] and ± 95 % intervals over documents"


SECTIONS: dict[type, Callable[[Page, Report, Any], None]] = {
    MergeMeasurements: _merge,
    BarrierMeasurements: _barriers,
    PathMeasurements: _path,
    SharpnessMeasurements: _sharpness,
    LandscapeMeasurements: _landscape,
    FinetuneMeasurements: _finetune,
    MembersMeasurements: _members,
    CheckMeasurements: _check,
}
"""A new kind of result is one function and one line here."""
