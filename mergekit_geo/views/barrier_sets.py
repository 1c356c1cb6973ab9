"""Losses along paths on several evaluation sets: one table, and the curves of each set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.records.report import Report
from mergekit_geo.views.barrier import (
    barrier_blocks,
    barrier_csv,
    barrier_files,
    barrier_table,
    curves,
    describe_barriers,
)
from mergekit_geo.views.block import Block, Chart, Paragraph, Table
from mergekit_geo.views.losses import WITH_OUTPUT

Measured = Mapping[str, tuple[DataEntry, Sequence[BarrierEntry]]]
"""Paths that were measured, by set."""


def barriers_of(
    report: Report, found: WITH_OUTPUT, way: str, output_at: float | None
) -> list[Block]:
    """Losses along the paths of an output, on one set or on several.

    Args:
        report: Of the output.
        found: Its result.
        way: Where the paths lead, for who cannot see the curves.
        output_at: t of the output on them, where it was not chosen there.
    """
    if not found.sets:
        return barrier_blocks(found.barriers, way, report.data, output_at)
    measured = {name: (one.data, one.barriers) for name, one in found.sets.items()}
    return barriers_by_set(measured, way, output_at)


def barriers_by_set(
    found: Measured,
    way: str,
    output_at: float | None = None,
    drawn: Mapping[str, Sequence[BarrierEntry]] | None = None,
) -> list[Block]:
    """One table of all sets, then the curves of each; nothing where there are no paths.

    Args:
        found: Paths by set.
        way: Where they lead, for who cannot see the curves.
        output_at: t of the output on them, where it was not chosen there.
        drawn: Those whose curves are drawn, by set; all if None.
    """
    known = {name: one for name, one in found.items() if one[1]}
    rows = [
        [name, *row] for name, (_, entries) in known.items() for row in barrier_table(entries).rows
    ]
    if not rows:
        return []
    blocks: list[Block] = [Table(["set", *barrier_table([]).head], rows)]
    for name, (data, entries) in known.items():
        title = f"Loss along the path {way} on {name}"
        about = describe_barriers(entries).replace("Loss", f"On {name}: loss", 1)
        seen = entries if drawn is None else drawn[name]
        picture = Chart(curves(seen, data, output_at), title, f"barrier-{name}")
        blocks += [Paragraph(about or f"On {name}:"), picture]
    return blocks


def barrier_files_of(found: WITH_OUTPUT) -> dict[str, Callable[[], bytes]]:
    """CSV of losses along paths; of several sets, one file each."""
    if not found.sets:
        return barrier_files(found.barriers)
    return files_by_set({name: (one.data, one.barriers) for name, one in found.sets.items()})


def files_by_set(found: Measured) -> dict[str, Callable[[], bytes]]:
    """CSV of losses along paths, a file for each set that has paths."""
    return {
        f"barrier-{name}.csv": partial(barrier_csv, entries)
        for name, (_, entries) in found.items()
        if entries
    }
