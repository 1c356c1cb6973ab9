"""Loss along paths between models: tables, curves, numbers for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.views.block import Block, Chart, Paragraph, Table
from mergekit_geo.views.chart import Gap, Line, Lines, number, short_name
from mergekit_geo.views.losses import estimate, loss_unit

PAIR = 2
NARROW = 0.05
"""Share of a picture's height that a gap has where a label finds room beside it."""


def barrier_blocks(
    entries: Sequence[BarrierEntry],
    way: str,
    data: DataEntry | None = None,
    output_at: float | None = None,
    drawn: Sequence[BarrierEntry] | None = None,
) -> list[Block]:
    """Table and curves of losses along paths; nothing where there are no paths.

    Args:
        entries: Of each path.
        way: Where the paths lead, for who cannot see the curves.
        data: What loss was measured on.
        output_at: t of the output on them, where it was not chosen there.
        drawn: Those whose curves are drawn; all if None.
    """
    if not entries:
        return []
    picture = Chart(
        curves(drawn or entries, data, output_at), f"Loss along the path {way}", "barrier"
    )
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
