"""A path that was fitted between two models."""

from __future__ import annotations

from mergekit_geo.records.path import PathMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.views.barrier import barrier_blocks, barrier_files
from mergekit_geo.views.block import Block, Code, Folded, Section, View
from mergekit_geo.views.losses import models_section


def view(report: Report, found: PathMeasurements) -> View:
    """View of a fitted path, beside the straight line between its ends."""
    history = "\n".join(f"step {step}: {loss:.4f}" for step, loss in found.history)
    ways = [found.straight, found.fitted]
    blocks: list[Block] = [
        models_section("Ends", found.losses, report.data),
        Section("Straight, and fitted", barrier_blocks(ways, "between the ends")),
        Folded("highest held-out loss while it was fitted", [Code(history, "")]),
    ]
    headline = [f"{line[:1].upper()}{line[1:]}." for line in _lines(found)]
    return View(headline, blocks, barrier_files(ways))


def _lines(found: PathMeasurements) -> list[str]:
    """A fitted path in words."""
    bends = "one bend" if found.bends == 1 else f"{found.bends} bends"
    lines = [
        f"straight: {found.straight.verdict}",
        f"{found.kind}, {bends}, {found.steps} steps: {found.fitted.verdict}",
        f"the path is {found.length_ratio:.2f} times as long as the straight line; its loss is "
        f"lowest at t = {found.lowest_t:.3f}",
    ]
    if found.saddle is not None:
        height = found.saddle.loss.value
        lines.append(f"its highest point is a loss of {height:.4f} at t = {found.saddle.t:.3f}")
    elif found.kind == "neb":
        lines.append("no saddle: nothing on the way is higher than its ends")
    if found.removed is not None:
        lines.append(f"it avoids {found.removed:.0%} of the barrier")
    return lines
