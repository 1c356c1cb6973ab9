"""Loss along paths between models: tables, curves, every pair of several, a fitted path."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from functools import partial

from mergekit_geo.records.barrier import BarrierEntry, BarrierMeasurements
from mergekit_geo.records.path import PathMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.views.basins import standing
from mergekit_geo.views.block import Block, Chart, Code, Folded, Paragraph, Section, Table, View
from mergekit_geo.views.chart import ErrorBar, Heatmap, Line, Lines, number, short_name
from mergekit_geo.views.losses import estimate, models_section

PAIR = 2


def view(report: Report, found: BarrierMeasurements) -> View:
    """View of a barrier measurement: every pair of models, along every path."""
    sections = [
        models_section("Models", found.losses, report.data),
        Section("Loss along the paths", barrier_blocks(found.pairs, "between the models")),
    ]
    if len(found.losses) > PAIR:
        picture = Chart(matrix(found), "Barrier of every pair", "matrix")
        sections.append(Section("Every pair", [picture]))
    return View(_headline(report, found), sections, barrier_files(found.pairs))


def _headline(report: Report, found: BarrierMeasurements) -> list[str]:
    pairs = [f"{e.first} to {e.second}, {e.along}: {e.verdict}." for e in found.pairs]
    if len(report.models) <= PAIR:
        return pairs
    basins = "; ".join(", ".join(basin) for basin in found.basins)
    count = "One basin" if len(found.basins) == 1 else f"{len(found.basins)} basins"
    sure = all(standing(entry) != "unknown" for entry in found.pairs)
    return [f"{count}{'' if sure else ', as far as can be told'}: {basins}.", *pairs]


def barrier_blocks(entries: Sequence[BarrierEntry], way: str) -> list[Block]:
    """Table and curves of losses along paths; nothing where there are no paths.

    Args:
        entries: Of each path.
        way: Where the paths lead, for who cannot see the curves.
    """
    if not entries:
        return []
    picture = Chart(curves(entries), f"Loss on the way {way}", "barrier")
    return [Paragraph(describe_barriers(entries)), barrier_table(entries), picture]


def barrier_table(entries: Sequence[BarrierEntry]) -> Table:
    """Models, kind of path, barrier or dip with its interval, and where that is."""
    rows = [[entry.first, entry.second, entry.along, *_height(entry)] for entry in entries]
    return Table(["from", "to", "along", "barrier", "at t"], rows)


def _height(entry: BarrierEntry) -> tuple[str, str]:
    """The barrier and its place; the dip and its place where the path lies below its ends."""
    value, dip = entry.barrier.value, entry.dip
    if value is None or value >= 0:
        return estimate(entry.barrier), number(entry.t_max, ".3f")
    if dip is None or dip.value is None or dip.high is None or dip.high >= 0:
        return f"none ({estimate(entry.barrier)})", number(entry.t_max, ".3f")
    assert dip.low is not None, "an end without the other"
    size = f"{-dip.value:.4f} [{-dip.high:.4f}, {-dip.low:.4f}]"
    return f"none (dips {size})", number(entry.t_dip, ".3f")


def describe_barriers(entries: Sequence[BarrierEntry]) -> str:
    """What the losses along paths are of; empty where reports do not tell."""
    count = _documents(entries)
    if count is None:
        return ""
    return (
        f"Loss along the paths on {count} documents, the report half; each t was chosen on the "
        "other half."
    )


def _documents(entries: Sequence[BarrierEntry]) -> int | None:
    """How many documents paths were measured on; None where reports do not tell, or differ."""
    found = {entry.documents for entry in entries}
    return found.pop() if len(found) == 1 else None


def curves(entries: Sequence[BarrierEntry]) -> Lines:
    """Loss along every path, the barrier's interval above the chord, and the point taken."""
    count = _documents(entries)
    axis = "loss" if count is None else f"loss ({count} documents, report half)"
    return Lines("t", axis, [_curve(entry) for entry in entries])


def _curve(entry: BarrierEntry) -> Line:
    known = {t: x for t, x in zip(entry.t, entry.loss, strict=True) if x is not None}
    name = f"{short_name(entry.first)} to {short_name(entry.second)}, {short_name(entry.along)}"
    at = entry.taken
    star = (at, known[at]) if at is not None and at in known else None
    return Line(name, entry.t, entry.loss, _interval(entry, list(known.values())), star)


def _interval(entry: BarrierEntry, losses: Sequence[float]) -> ErrorBar | None:
    """The barrier at its place, above the chord."""
    found, t = entry.barrier, entry.t_max
    if t is None or found.value is None or found.low is None or found.high is None or not losses:
        return None
    chord = (1 - t) * losses[0] + t * losses[-1]
    return ErrorBar(t, chord + found.low, chord + found.value, chord + found.high)


def matrix(found: BarrierMeasurements) -> Heatmap:
    """Barrier of every pair."""
    names = [short_name(entry.model) for entry in found.losses]
    return Heatmap("barrier", names, names, found.matrix)


def barrier_files(entries: Sequence[BarrierEntry]) -> dict[str, Callable[[], bytes]]:
    """CSV of losses along paths, one row a point; no file without paths."""
    return {"barrier.csv": partial(_csv, entries)} if entries else {}


def _csv(entries: Sequence[BarrierEntry]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["first", "second", "along", "t", "loss", "metric"])
    for entry in entries:
        metric = entry.metric or [None] * len(entry.t)
        for t, loss, score in zip(entry.t, entry.loss, metric, strict=True):
            writer.writerow([entry.first, entry.second, entry.along, t, loss, score])
    return text.getvalue().encode()


def path_view(report: Report, found: PathMeasurements) -> View:
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
