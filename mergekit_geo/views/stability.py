"""When a training enters the basin of its end: in words, and a picture over its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_geo.records.barrier import (
    BarrierEntry,
    BarrierMeasurements,
    BarrierSetEntry,
    StabilityEntry,
)
from mergekit_geo.records.findings import Finding, finding
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.views.block import Block, Chart, Paragraph
from mergekit_geo.views.chart import Dot, Dots, Panel, short_name
from mergekit_geo.views.losses import loss_unit

CURVES = 8
"""Most curves of paths that can be told apart in one picture."""
HOW = (
    "Lines: 95 % intervals over documents, at the place on the path that the other half chose. "
    "Shaded: below 2 % of the mean loss, which is negligible. Right of it, in orange: a barrier."
)


def stability_lines(found: BarrierMeasurements | BarrierSetEntry) -> list[str]:
    """From which checkpoint on nothing parts the training from its end, and the highest barrier."""
    entry = found.stability
    assert entry is not None
    ways = "to the next checkpoint or to the last one"
    if entry.no_barrier_from is not None:
        first = f"From {entry.no_barrier_from} on no path {ways} has a significant barrier"
    else:
        first = f"No checkpoint before the last one is without a barrier on a path {ways}"
    return [f"{first}.", _basin(entry), *_highest(found, entry), *_caution(found, entry)]


def _basin(entry: StabilityEntry) -> str:
    if entry.one_basin_from is None:
        return "From no checkpoint on it is sure that every barrier is below 2 % of the loss."
    return f"From {entry.one_basin_from} on every barrier is below 2 % of the loss: one basin."


def _caution(found: BarrierMeasurements | BarrierSetEntry, entry: StabilityEntry) -> list[str]:
    """What no barrier from the start on does not say."""
    if entry.no_barrier_from != found.pairs[entry.to_next[0]].first:
        return []
    return [
        "The loss mostly falls all the way from early weights to late ones (Goodfellow 2015): that "
        "two runs which part there end in one basin (Frankle 2020) does not follow."
    ]


def _highest(found: BarrierMeasurements | BarrierSetEntry, entry: StabilityEntry) -> list[str]:
    """The highest of the significant barriers, if there are any."""
    own = [found.pairs[i] for i in dict.fromkeys([*entry.to_next, *entry.to_last])]
    walls = [one for one in own if one.significant]
    if not walls:
        return []
    top = max(walls, key=lambda one: one.barrier.number)
    return [f"The highest is from {top.first} to {top.second}: {top.verdict}."]


def stability_blocks(
    found: BarrierMeasurements | BarrierSetEntry, data: DataEntry | None, name: str = ""
) -> list[Block]:
    """Barriers of every checkpoint to the next one and to the last one, as a picture.

    Args:
        found: What was measured.
        data: On what.
        name: Of the set; empty where it is the only one.
    """
    entry = found.stability
    if entry is None:
        return []
    title = f"Barriers from every checkpoint{f', on {name}' if name else ''}"
    text = (
        "A barrier is the height of the loss above the straight line between the losses of the two "
        "ends; negative where the whole path lies below it. Frankle (2020) asks for barriers "
        "between two copies that are trained on from a checkpoint; these are of one training."
    )
    stem = f"stability-{name}" if name else "stability"
    return [Paragraph(text), Chart(_picture(found, entry, data), title, stem)]


def _picture(
    found: BarrierMeasurements | BarrierSetEntry, entry: StabilityEntry, data: DataEntry | None
) -> Dots:
    names = [short_name(found.pairs[i].first) for i in entry.to_next]
    panels = [
        _panel(
            f"barrier {to} ({loss_unit(data)})", [found.pairs[i] for i in places], found.threshold
        )
        for to, places in (("to the next", entry.to_next), ("to the last", entry.to_last))
    ]
    return Dots(names, [False] * len(names), panels, HOW)


def _panel(title: str, paths: Sequence[BarrierEntry], limit: float) -> Panel:
    dots = [
        None if one.barrier.value is None
        else Dot(one.barrier.value, one.barrier.low, one.barrier.high)
        for one in paths
    ]  # fmt: skip
    return Panel(title, dots, 0.0, (0.0, limit), [_found(one, limit) for one in paths])


def _found(entry: BarrierEntry, limit: float) -> Finding:
    """How a barrier is drawn: a negligible one as if there were none."""
    found = finding(entry.barrier, entry.threshold or limit)
    is_small = found == "higher" and entry.barrier.number < (entry.threshold or limit)
    return "same" if is_small else found


def curves_of(found: BarrierMeasurements | BarrierSetEntry) -> list[BarrierEntry]:
    """The paths whose curves are drawn: all, but of a training those to the last checkpoint."""
    if found.stability is None:
        return list(found.pairs)
    own = [found.pairs[i] for i in found.stability.to_last]
    step = -(-len(own) // CURVES)
    return own[::step]
