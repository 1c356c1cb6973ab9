"""What a recipe would do."""

from __future__ import annotations

from mergekit_geo.records.plan import PlanMeasurements, PlannedMember, PlanRow
from mergekit_geo.records.report import Report
from mergekit_geo.units import in_gigabytes
from mergekit_geo.views.block import Items, Table, View


def view(report: Report, found: PlanMeasurements) -> View:
    """View of a plan: coefficients by layer, models to train first, what is read and written."""
    names = [model.name for model in report.models]
    rows = Table(["layer", "tensors", *names], [_row(found, row) for row in found.rows])
    head = ["trained first", "from", "on", "seed", "rho", "examples", "steps", "disk", ""]
    members = Table(head, [_member(member) for member in found.members])
    free = "" if found.free is None else f", {in_gigabytes(found.free)} free"
    size = (
        f"{found.tensors} tensors, {found.parameters:,} parameters, {found.dtype}: reads "
        f"{in_gigabytes(found.read)}, needs {in_gigabytes(found.written)} of disk{free}"
    )
    return View((), [rows, Items(_remarks(found)), members, Items([size, "nothing was written"])])


def _remarks(found: PlanMeasurements) -> list[str]:
    """How the numbers of the rows are to be read."""
    lines = []
    if found.by_loss:
        lines.append(f"{found.method}: coefficients are chosen by loss")
    elif found.by_geometry:
        lines.append(
            f"{found.method}: each tensor's inner products turn these weights into coefficients"
        )
    if any(density < 1 for row in found.rows for density in row.densities):
        lines.append("w of d: weight w of a share d of the elements")
    return lines


def _row(found: PlanMeasurements, row: PlanRow) -> list[str]:
    """A layer; its tensors by name where only a part of it shares the weights."""
    whole = sum(other.layer == row.layer for other in found.rows) == 1
    names = [name.removeprefix(f"{row.layer}.").removesuffix(".weight") for name in row.tensors]
    cells = [f"{weight:.4g}" for weight in row.weights]
    for i, density in enumerate(row.densities):
        cells[i] += f" of {density:.4g}" if density < 1 else ""
    return [row.layer, f"all {len(names)}" if whole else ", ".join(names), *cells]


def _member(member: PlannedMember) -> list[str]:
    counts = ("?" if n is None else f"{n:,}" for n in (member.examples, member.steps))
    disk = in_gigabytes(member.disk) if member.disk else ""
    named = [member.name, member.model, member.train_data, str(member.seed), f"{member.rho:g}"]
    return [*named, *counts, disk, member.state]
