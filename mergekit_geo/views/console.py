"""A report as tables on stdout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mergekit_geo.printable import printable
from mergekit_geo.records.barrier import BarrierEntry, BarrierMeasurements
from mergekit_geo.records.curvature import CAVEATS, SharpnessEntry, SharpnessMeasurements
from mergekit_geo.records.landscape import LandscapeMeasurements
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.records.merge import MergeMeasurements
from mergekit_geo.records.model import CheckMeasurements, Geometry
from mergekit_geo.records.path import PathMeasurements
from mergekit_geo.records.plan import PlanMeasurements, PlannedMember, PlanRow
from mergekit_geo.records.push import PushMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.records.selection import SelectionEntry
from mergekit_geo.records.training import FinetuneMeasurements, MembersMeasurements
from mergekit_geo.units import in_gigabytes
from mergekit_geo.views.headline import summary
from mergekit_geo.views.inert import InertConsole
from mergekit_geo.views.landscape_text import landscape_lines
from mergekit_geo.views.tables import (
    BARRIER_HEAD,
    barrier_rows,
    describe_barriers,
    describe_data,
    describe_sharpness,
    loss_table,
    members_table,
    model_table,
    path_lines,
    sharpness_table,
    training_lines,
)

WIDE = 160


def print_report(report: Report) -> None:
    """Tables and verdict on stdout, warnings on stderr."""
    errors = InertConsole(stderr=True, soft_wrap=True)
    for warning in report.warnings:
        errors.print(f"warning: {warning}")
    console = InertConsole()
    if not console.is_terminal:
        console = InertConsole(width=WIDE)
    show = PRINTED.get(type(report.result))
    if show is not None:
        show(console, report, report.result)
    if report.pushed is not None:
        _print_push(console, report, report.pushed)


def _print_merge(console: Console, report: Report, result: MergeMeasurements) -> None:
    if result.geometry is not None and len(report.models) > 1:
        console.print(_geometry_table(report, result.geometry))
    _print_losses(console, report)
    if result.selection is not None:
        for line in _selection(result.selection):
            console.print(line)
    _print_ground(console, report, result)
    branches = ", ".join(f"{count} {name}" for name, count in result.coefficients.branches.items())
    console.print(f"tensors: {branches}")
    if result.coefficients.kept:
        console.print(f"kept of the task vectors: {_kept(report, result)}")
    _print_missing(console, report)
    console.print(f"written to {report.output}")


def _print_losses(console: Console, report: Report) -> None:
    if report.data is not None:
        _print_notes(console, report.data)
        console.print(
            f"measured on {describe_data(report.data)}; [..] and ± 95 % intervals over documents, "
            "paired in the columns of differences",
        )
        console.print(_table(*loss_table(report)))


def _print_ground(
    console: Console, report: Report, result: MergeMeasurements | FinetuneMeasurements
) -> None:
    """Barriers between the models, what it comes to, and how sharp they are."""
    if result.barriers:
        _print_caption(console, result.barriers)
        console.print(_table(BARRIER_HEAD, barrier_rows(result.barriers)))
    for text in summary(report):
        console.print(text)
    if result.sharpness:
        _print_sharpness(console, report, result.sharpness)


def _print_caption(console: Console, entries: Sequence[BarrierEntry]) -> None:
    if text := describe_barriers(entries):
        console.print(text)


def _kept(report: Report, result: MergeMeasurements) -> str:
    shares = zip(report.models, result.coefficients.kept, strict=False)
    return ", ".join(f"{m.name} {share:.2%}" for m, share in shares if share is not None)


def _print_missing(console: Console, report: Report) -> None:
    for item in report.not_measured:
        command = f"; {item.command}" if item.command else ""
        text = f"not measured: {item.what} ({item.why}{command})"
        console.print(text)


def _print_finetune(console: Console, report: Report, result: FinetuneMeasurements) -> None:
    for line in training_lines(result.training):
        console.print(line)
    _print_losses(console, report)
    _print_ground(console, report, result)
    _print_missing(console, report)
    console.print(f"written to {report.output}")


def _print_members(console: Console, report: Report, result: MembersMeasurements) -> None:
    if report.data is not None:
        console.print(f"measured on {describe_data(report.data)}")
    console.print(_table(*members_table(result)))
    for line in training_lines(result.members[0].measured.training):
        console.print(line)
    console.print(f"written to {report.output}; to average them:")
    console.print(result.soup, soft_wrap=True)


def _print_path(console: Console, report: Report, result: PathMeasurements) -> None:
    assert report.data is not None
    _print_notes(console, report.data)
    console.print(
        f"measured on {describe_data(report.data)}; [..] and ± 95 % intervals over documents"
    )
    console.print(_table(*model_table(result.losses, report.data)))
    _print_caption(console, [result.straight, result.fitted])
    console.print(_table(BARRIER_HEAD, barrier_rows([result.straight, result.fitted])))
    for line in path_lines(result):
        console.print(line)
    console.print(f"written to {report.output}")


def _print_all_sharpness(console: Console, report: Report, result: SharpnessMeasurements) -> None:
    _print_sharpness(console, report, result.sharpness)
    if report.output:
        console.print(f"written to {report.output}")


def _print_sharpness(console: Console, report: Report, entries: Sequence[SharpnessEntry]) -> None:
    unit = report.data.unit if report.data else "example"
    for line in describe_sharpness(entries, unit):
        console.print(line)
    console.print(_table(*sharpness_table(entries)))
    for entry in entries:
        console.print(f"{entry.model}: {entry.stationarity.sentence}")
    for caveat in CAVEATS:
        console.print(f"note: {caveat}")


def _print_barriers(console: Console, report: Report, result: BarrierMeasurements) -> None:
    assert report.data is not None
    _print_notes(console, report.data)
    console.print(
        f"measured on {describe_data(report.data)}; t of the maximum chosen on the other half; "
        "[..] and ± 95 % intervals over documents"
    )
    console.print(_table(*model_table(result.losses, report.data)))
    console.print(_table(BARRIER_HEAD, barrier_rows(result.pairs)))
    for entry in result.pairs:
        line = f"{entry.first} to {entry.second}, {entry.along}: {entry.verdict}"
        console.print(line)
    if len(report.models) > 2:  # noqa: PLR2004
        for number, basin in enumerate(result.basins, start=1):
            console.print(f"basin {number}: {', '.join(basin)}")
    if report.output:
        console.print(f"written to {report.output}")


def _print_push(console: Console, report: Report, result: PushMeasurements) -> None:
    console.print(
        f"{result.files} files, {in_gigabytes(result.size)}, are there as they are on the disk "
        "(sizes and hashes)"
    )
    console.print(f"pushed to {result.url} (commit {result.commit})", soft_wrap=True)


def _print_landscape(console: Console, report: Report, result: LandscapeMeasurements) -> None:
    assert report.data is not None
    _print_notes(console, report.data)
    console.print(
        f"measured on {describe_data(report.data)}; [..] and ± 95 % intervals over documents"
    )
    console.print(_table(*model_table(result.losses, report.data)))
    for line in landscape_lines(result):
        console.print(line)
    if report.output:
        console.print(f"written to {report.output}")


def _selection(entry: SelectionEntry) -> list[str]:
    chosen = f"chosen on {entry.documents} other documents, {entry.method}: {entry.chosen}"
    return [chosen, *(f"left out: {text}" for text in entry.left_out)]


def _print_notes(console: Console, data: DataEntry) -> None:
    for note in data.notes:
        console.print(f"note: {note}")


def _geometry_table(report: Report, geometry: Geometry) -> Table:
    rows = [
        (
            report.models[pair.first].name,
            report.models[pair.second].name,
            "undefined" if pair.cosine is None else f"{pair.cosine:.6f}",
            f"{pair.distance:.4g}",
            f"{geometry.total.norms[pair.first]:.4g}, {geometry.total.norms[pair.second]:.4g}",
        )
        for pair in geometry.total.pairs
    ]
    return _table(("model", "model", "cosine", "distance", "norms"), rows)


def _print_check(console: Console, report: Report, result: CheckMeasurements) -> None:
    for note in result.notes:
        console.print(f"note: {note}")
    for problem in result.problems[:10]:
        console.print(f"problem: {problem}")
    if len(result.problems) > 10:  # noqa: PLR2004
        console.print(f"... and {len(result.problems) - 10} more (--json has all)")
    names = ", ".join(model.name for model in report.models)
    verdict = "can be merged" if result.compatible else "cannot be merged"
    console.print(f"{names}: {verdict} ({result.tensors} tensors)")


def _print_plan(console: Console, report: Report, result: PlanMeasurements) -> None:
    if result.rows:
        head = ("layer", "tensors", *(model.name for model in report.models))
        console.print(_table(head, [_plan_row(result, row) for row in result.rows]))
    if result.by_loss:
        console.print(f"{result.method}: coefficients are chosen by loss")
    elif result.by_geometry:
        console.print(
            f"{result.method}: each tensor's inner products turn these weights into coefficients",
        )
    if any(density < 1 for row in result.rows for density in row.densities):
        console.print("w of d: weight w of a share d of the elements")
    if result.members:
        head = ("trained first", "from", "on", "seed", "rho", "examples", "steps", "disk", "")
        console.print(_table(head, [_member_row(member) for member in result.members]))
    free = "" if result.free is None else f", {in_gigabytes(result.free)} free"
    console.print(
        f"{result.tensors} tensors, {result.parameters:,} parameters, {result.dtype}: reads "
        f"{in_gigabytes(result.read)}, needs {in_gigabytes(result.written)} of disk{free}"
    )
    console.print("nothing was written")


def _member_row(member: PlannedMember) -> tuple[str, ...]:
    counts = ("?" if n is None else f"{n:,}" for n in (member.examples, member.steps))
    disk = in_gigabytes(member.disk) if member.disk else ""
    named = (member.name, member.model, member.train_data, str(member.seed), f"{member.rho:g}")
    return (*named, *counts, disk, member.state)


def _plan_row(result: PlanMeasurements, row: PlanRow) -> tuple[str, ...]:
    """A layer; its tensors by name where only a part of it shares the weights."""
    whole = sum(other.layer == row.layer for other in result.rows) == 1
    names = [name.removeprefix(f"{row.layer}.").removesuffix(".weight") for name in row.tensors]
    text = f"all {len(names)}" if whole else ", ".join(names)
    cells = [f"{weight:.4g}" for weight in row.weights]
    for i, density in enumerate(row.densities):
        cells[i] += f" of {density:.4g}" if density < 1 else ""
    return (row.layer, text, *cells)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(head):
        side: Literal["left", "right"] = "left" if index == 0 else "right"
        table.add_column(Text(printable(name)), justify=side, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


PRINTED: dict[type, Callable[[Console, Report, Any], None]] = {
    MergeMeasurements: _print_merge,
    BarrierMeasurements: _print_barriers,
    PathMeasurements: _print_path,
    SharpnessMeasurements: _print_all_sharpness,
    LandscapeMeasurements: _print_landscape,
    FinetuneMeasurements: _print_finetune,
    MembersMeasurements: _print_members,
    CheckMeasurements: _print_check,
    PushMeasurements: _print_push,
    PlanMeasurements: _print_plan,
}
