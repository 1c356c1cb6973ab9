"""A fitted path beside the straight line, on one evaluation set or on several."""

from __future__ import annotations

from mergekit_geo.records.path import PathMeasurements, PathSetEntry
from mergekit_geo.records.report import Report
from mergekit_geo.views.barrier import barrier_blocks, barrier_files
from mergekit_geo.views.barrier_sets import barriers_by_set, files_by_set
from mergekit_geo.views.block import Block, Code, Folded, Section, View
from mergekit_geo.views.sets import models_by_set


def view(report: Report, found: PathMeasurements) -> View:
    """View of a fitted path, beside the straight line between its ends."""
    history = "\n".join(f"step {step}: {loss:.4f}" for step, loss in found.history)
    ways = [found.straight, found.fitted]
    measured = {name: (one.data, [one.straight, one.fitted]) for name, one in found.sets.items()}
    curves = (
        barriers_by_set(measured, "between the ends")
        if measured
        else barrier_blocks(ways, "between the ends", report.data)
    )
    blocks: list[Block] = [
        models_by_set("Ends", found.sets, found.losses, report.data),
        Section("The straight line and the fitted path", curves),
        Folded("highest held-out loss while it was fitted", [Code(history, "")]),
    ]
    files = files_by_set(measured) if measured else barrier_files(ways)
    return View(_headline(found), blocks, files)


def _headline(found: PathMeasurements) -> list[str]:
    """The fitted path beside the straight line, then what else there is to say of it."""
    bends = "one control point" if found.bends == 1 else f"{found.bends} control points"
    about = f"{found.kind}, {bends}, {found.steps} steps"
    if not found.sets:
        told = _compared(found, f" ({about})")
    else:
        told = [f"A path was fitted: {about}."]
        told += [
            f"{name}: {line}" for name, one in found.sets.items() for line in _compared(one, "")
        ]
    return [
        *told,
        f"It is {found.length_ratio:.2f} times as long as the straight line; its loss is lowest at "
        f"t = {found.lowest_t:.3f}.",
    ]


def _compared(found: PathMeasurements | PathSetEntry, about: str) -> list[str]:
    """What stands on the path and on the segment, on one set."""
    lines = [
        f"On the fitted path{about}: {found.fitted.verdict}. "
        f"On the straight line: {found.straight.verdict}."
    ]
    if found.removed is not None:
        lines.append(f"The path avoids {found.removed:.0%} of the barrier.")
    if found.saddle is not None:
        height = found.saddle.loss.value
        lines.append(f"Its highest point is a loss of {height:.4f} at t = {found.saddle.t:.3f}.")
    elif isinstance(found, PathMeasurements) and found.kind == "neb":
        lines.append("It has no saddle: nothing on it is higher than its ends.")
    return lines
