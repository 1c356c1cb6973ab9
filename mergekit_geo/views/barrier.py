"""Loss along paths between models: tables, curves, every pair of several, a fitted path."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from mergekit_geo.records.barrier import BarrierEntry, BarrierMeasurements
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.records.path import PathMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.views.basins import standing
from mergekit_geo.views.block import Block, Chart, Code, Folded, Paragraph, Section, Table, View
from mergekit_geo.views.chart import Gap, Heatmap, Line, Lines, number, short_name
from mergekit_geo.views.geometry import geometry_blocks
from mergekit_geo.views.layers import layers_files, layers_headline, layers_section
from mergekit_geo.views.losses import estimate, loss_unit, models_section
from mergekit_geo.views.why import why

PAIR = 2
NARROW = 0.05
"""Share of a picture's height that a gap has where a label finds room beside it."""


def view(report: Report, found: BarrierMeasurements) -> View:
    """View of a barrier measurement: every pair of models, along every path."""
    sections = [
        models_section("Models", found.losses, report.data),
        Section(
            "Loss along the paths", barrier_blocks(found.pairs, "between the models", report.data)
        ),
    ]
    if len(found.losses) > PAIR:
        picture = Chart(matrix(found, report.data), "Barrier of every pair", "matrix")
        sections.append(Section("Every pair", [picture]))
    sections.append(layers_section(found.by_layer, report.data, found.sets))
    sections.append(Section("Geometry", geometry_blocks(report, found.geometry)))
    files = {**barrier_files(found.pairs), **layers_files(found.by_layer)}
    parted = any(entry.significant for entry in found.pairs)
    headline = [
        *_headline(report, found),
        *why(report, found.geometry, parted=parted),
        *layers_headline(found.by_layer),
    ]
    return View(headline, sections, files)


def _headline(report: Report, found: BarrierMeasurements) -> list[str]:
    pairs = [f"{e.first} to {e.second}, {e.along}: {e.verdict}." for e in found.pairs]
    if len(report.models) <= PAIR:
        return pairs
    basins = "; ".join(", ".join(basin) for basin in found.basins)
    count = "One basin" if len(found.basins) == 1 else f"{len(found.basins)} basins"
    sure = all(standing(entry) != "unknown" for entry in found.pairs)
    return [f"{count}{'' if sure else ', as far as can be told'}: {basins}.", *pairs]


def barrier_blocks(
    entries: Sequence[BarrierEntry],
    way: str,
    data: DataEntry | None = None,
    output_at: float | None = None,
) -> list[Block]:
    """Table and curves of losses along paths; nothing where there are no paths.

    Args:
        entries: Of each path.
        way: Where the paths lead, for who cannot see the curves.
        data: What loss was measured on.
        output_at: t of the output on them, where it was not chosen there.
    """
    if not entries:
        return []
    picture = Chart(curves(entries, data, output_at), f"Loss along the path {way}", "barrier")
    return [Paragraph(describe_barriers(entries)), picture, barrier_table(entries)]


def barrier_table(entries: Sequence[BarrierEntry]) -> Table:
    """Ends, barrier or dip with its interval, where that is, and the kind of path."""
    rows = [[f"{e.first} → {e.second}", *_height(e), e.along] for e in entries]
    return Table(["path", "barrier", "at t", "along"], rows)


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


def curves(
    entries: Sequence[BarrierEntry], data: DataEntry | None = None, output_at: float | None = None
) -> Lines:
    """Loss along every path, how far it rises above its chord, and the output."""
    ends = {(short_name(entry.first), short_name(entry.second)) for entry in entries}
    first, second = ends.pop() if len(ends) == 1 else ("from", "to")
    heights = [loss for entry in entries for loss in entry.loss if loss is not None]
    least = NARROW * (max(heights) - min(heights)) if heights else 0.0
    drawn = _side_by_side([_curve(entry, output_at, least) for entry in entries])
    return Lines(f"t (0 = {first}, 1 = {second})", f"loss ({loss_unit(data)})", drawn,
                 _caption(entries, drawn))  # fmt: skip


def _side_by_side(drawn: Sequence[Line]) -> list[Line]:
    """Move gaps a little, so that none covers another."""
    places = [i for i, line in enumerate(drawn) if line.gap is not None]
    return [
        line
        if line.gap is None
        else replace(line, gap=line.gap.beside(places.index(i), len(places)))
        for i, line in enumerate(drawn)
    ]


def _caption(entries: Sequence[BarrierEntry], drawn: Sequence[Line]) -> str:
    """How the curves are to be read, and what they were measured on."""
    count = _documents(entries)
    half = "the report half" if count is None else f"{count} documents, the report half"
    texts = [
        f"Measured on {half}: losses of models on all documents differ",
        "dotted: what a path without a barrier would have (chord)",
    ]
    if any(line.gap for line in drawn):
        texts.append(
            "bracket: the gap between both, at the t chosen on the other half, with its 95 % "
            "interval"
        )
    if any(not line.is_traced for line in drawn):
        texts.append("too few points were measured to draw a line through them")
    if any(line.star for line in drawn):
        texts.append("star: the output")
    return "; ".join(texts) + "."


def _curve(entry: BarrierEntry, output_at: float | None, least: float) -> Line:
    known = {t: x for t, x in zip(entry.t, entry.loss, strict=True) if x is not None}
    name = f"{short_name(entry.first)} to {short_name(entry.second)}, {short_name(entry.along)}"
    at = output_at if entry.taken is None else entry.taken
    star = (at, known[at]) if at is not None and at in known else None
    return Line(name, entry.t, entry.loss, _gap(entry, list(known.values()), least), star)


def _gap(entry: BarrierEntry, losses: Sequence[float], least: float) -> Gap | None:
    """The barrier above the chord, or the dip below it, where it is significant.

    Args:
        entry: The path.
        losses: On it.
        least: Size from which on it has a label.
    """
    kind = "barrier" if entry.significant else "dip"
    found, t = (entry.barrier, entry.t_max) if entry.significant else (entry.dip, entry.t_dip)
    if found is None or not found.is_significant or t is None or not losses:
        return None
    assert found.low is not None, "significant without an interval"
    assert found.high is not None, "significant without an interval"
    label = f"{kind} {abs(found.number):.2g} at t = {t:.2f}" if abs(found.number) > least else ""
    chord = (1 - t) * losses[0] + t * losses[-1]
    return Gap(t, chord, found.number, found.low, found.high, label)


def matrix(found: BarrierMeasurements, data: DataEntry | None) -> Heatmap:
    """Barrier of every pair; nothing of a model with itself."""
    names = [short_name(entry.model) for entry in found.losses]
    values = [
        [None if i == j else value for j, value in enumerate(row)]
        for i, row in enumerate(found.matrix)
    ]
    return Heatmap(
        f"barrier ({loss_unit(data)})", names, names, values,
        caption="0 where the barrier is not significant.",
    )  # fmt: skip


def barrier_files(entries: Sequence[BarrierEntry]) -> dict[str, Callable[[], bytes]]:
    """CSV of losses along paths, one row a point; no file without paths."""
    return {"barrier.csv": partial(barrier_csv, entries)} if entries else {}


def barrier_csv(entries: Sequence[BarrierEntry]) -> bytes:
    """A row for each point of each path."""
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
        Section(
            "The straight line and the fitted path",
            barrier_blocks(ways, "between the ends", report.data),
        ),
        Folded("highest held-out loss while it was fitted", [Code(history, "")]),
    ]
    return View(_path_headline(found), blocks, barrier_files(ways))


def _path_headline(found: PathMeasurements) -> list[str]:
    """The fitted path beside the straight line, then what else there is to say of it."""
    bends = "one control point" if found.bends == 1 else f"{found.bends} control points"
    lines = [
        f"On the fitted path ({found.kind}, {bends}, {found.steps} steps): {found.fitted.verdict}. "
        f"On the straight line: {found.straight.verdict}."
    ]
    if found.removed is not None:
        lines.append(f"The path avoids {found.removed:.0%} of the barrier.")
    if found.saddle is not None:
        height = found.saddle.loss.value
        lines.append(f"Its highest point is a loss of {height:.4f} at t = {found.saddle.t:.3f}.")
    elif found.kind == "neb":
        lines.append("It has no saddle: nothing on it is higher than its ends.")
    lines.append(
        f"It is {found.length_ratio:.2f} times as long as the straight line; its loss is lowest at "
        f"t = {found.lowest_t:.3f}."
    )
    return lines
