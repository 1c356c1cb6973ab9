"""What measures no loss: what a recipe would do, whether models can be merged, a push."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mergekit_geo.printable import in_gigabytes
from mergekit_geo.records.model import CheckMeasurements, FilesEntry, PartEntry
from mergekit_geo.records.plan import PlanMeasurements, PlannedMember, PlanRow
from mergekit_geo.records.report import PushMeasurements, Report
from mergekit_geo.views.block import Block, Code, Items, Paragraph, Section, Table, View
from mergekit_geo.views.stack import stack_table


def view(report: Report, found: PlanMeasurements) -> View:
    """View of a plan: coefficients by layer, models to train first, what is read and written."""
    blocks: list[Block] = []
    for stage in found.stages:
        blocks += [Paragraph(f"{stage.name}, {stage.state}:"), *_blocks(stage.plan, stage.models)]
    blocks += [Paragraph("output:" if found.stages else "")]
    blocks += _blocks(found, [model.name for model in report.models])
    needs = sum(stage.needs for stage in found.stages)
    way = f"models made on the way need {in_gigabytes(needs)} of disk in the cache" if needs else ""
    ends = Items([*([way] if way else []), "nothing was written"])
    return View((), [*blocks, ends])


def _blocks(found: PlanMeasurements, names: Sequence[str]) -> list[Block]:
    rows = Table(["layer", "tensors", *names], [_row(found, row) for row in found.rows])
    head = ["trained first", "from", "on", "seed", "rho", "examples", "steps", "disk", ""]
    members = Table(head, [_member(member) for member in found.members])
    free = "" if found.free is None else f", {in_gigabytes(found.free)} free"
    size = (
        f"{found.tensors} tensors, {found.parameters:,} parameters, {found.dtype}: reads "
        f"{in_gigabytes(found.read)}, needs {in_gigabytes(found.written)} of disk{free}"
    )
    whole = [f"the largest matrix is merged in {in_gigabytes(found.memory)} of memory"]
    ends = Items([size, *(whole if found.memory else [])])
    return [stack_table(found.layers), rows, Items(_remarks(found)), members, ends]


def _remarks(found: PlanMeasurements) -> list[str]:
    """How the numbers of the rows are to be read."""
    lines = []
    if found.by_loss:
        lines.append(f"{found.method}: coefficients are chosen by loss")
    elif found.by_geometry:
        lines.append(
            f"{found.method}: each tensor's inner products turn these weights into coefficients"
        )
    if found.sets:
        named = (f"{name} ({source})" for name, source in found.sets.items())
        lines.append(f"measured on {', '.join(named)}")
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


def push_view(report: Report, found: PushMeasurements) -> View:
    """View of a push: where the output is, and that it is there as it is on the disk."""
    size = in_gigabytes(found.size)
    there = f"{found.files} files, {size}, are there as they are on the disk (sizes and hashes)"
    place = f"pushed to {found.url} (commit {found.commit})"
    brief = [f"{report.output} -> {found.url} at {found.commit}"]
    return View(blocks=[Paragraph(there), Code(place, "")], brief=brief)


MOST = 10
"""Problems, and files of a kind, that are shown."""


def check_view(report: Report, found: CheckMeasurements) -> View:
    """View of a check: the models' parts, why they cannot be merged, what differs without harm."""
    problems = [f"problem: {problem}" for problem in found.problems[:MOST]]
    if len(found.problems) > MOST:
        problems.append(f"... and {len(found.problems) - MOST} more (--json has all)")
    names = [model.name for model in report.models]
    verdict = "can be merged" if found.compatible else "cannot be merged"
    notes = [f"note: {note}" for note in found.notes]
    blocks = [
        Section("Parts", [_parts(names, found.parts)]),
        *_files(found.files),
        Section("Notes", [Items(notes)]),
        Section("Problems", [Items(problems)]),
    ]
    if len(names) == 1:
        headline = f"{names[0]}: {found.tensors} tensors"
        brief = [headline, *(f"{part.name}: {_cell(*_size(part))}" for part in found.parts)]
    else:
        headline = f"{', '.join(names)}: {verdict} ({found.tensors} tensors)"
        brief = [f"the models {verdict}"]
    return View([headline], blocks, brief=[*brief, *found.problems, *found.notes])


def _files(found: FilesEntry | None) -> list[Section]:
    """What a merge does with each file of the first model."""
    if found is None:
        return []
    kinds = {"merged": found.merged, "copied": found.copied, "left out": found.left_out}
    lines = [f"files {kind}: {_some(files)}" for kind, files in kinds.items() if files]
    return [Section(f"Files of {found.model} in a merge", [Items(lines)])]


def _some(files: Sequence[str]) -> str:
    more = f" and {len(files) - MOST} more (--json has all)" if len(files) > MOST else ""
    return ", ".join(files[:MOST]) + more


def _parts(models: Sequence[str], parts: Sequence[PartEntry]) -> Table:
    """Each part with its size, in every model where they differ, and what a merge does to it."""
    rows: dict[str, dict[str, PartEntry]] = {}
    for part in parts:
        rows.setdefault(part.name, {})[part.model] = part
    sizes = {
        name: [_size(own[model]) if model in own else ("", "") for model in dict.fromkeys(models)]
        for name, own in rows.items()
    }
    if all(len(set(found)) == 1 for found in sizes.values()):
        head = ["part", "tensors", "parameters"]
        cells = {name: list(found[0]) for name, found in sizes.items()}
    else:
        head = ["part", *(f"{model}: tensors (parameters)" for model in dict.fromkeys(models))]
        cells = {name: [_cell(*size) for size in found] for name, found in sizes.items()}
    told = len(models) > 1
    return Table(
        [*head, *["in a merge"] * told],
        [[name, *cells[name], *[_told(own)] * told] for name, own in rows.items()],
    )


def _size(part: PartEntry) -> tuple[str, str]:
    return f"{part.tensors:,}", f"{part.parameters:,}"


def _cell(tensors: str, parameters: str) -> str:
    return f"{tensors} ({parameters})" if tensors else ""


def _told(own: Mapping[str, PartEntry]) -> str:
    """What becomes of a part, by model where that differs."""
    models: dict[str, list[str]] = {}
    for model, part in own.items():
        models.setdefault(_fate(part), []).append(model)
    if len(models) == 1:
        return next(iter(models))
    return "; ".join(f"{fate} ({', '.join(of)})" for fate, of in models.items())


def _fate(part: PartEntry) -> str:
    """What is done to a part, such as `merged`, or `12 merged, 1 copied`."""
    counts = {
        "merged": part.merged, "copied": part.copied, "left out": part.left_out,
        "refused": part.refused,
    }  # fmt: skip
    found = {word: count for word, count in counts.items() if count}
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{count} {word}" for word, count in found.items())
