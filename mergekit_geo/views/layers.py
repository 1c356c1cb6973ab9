"""Which layers did it: the share of every group in the rise from a model to a mean of two."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from mergekit_geo.records.findings import percent
from mergekit_geo.records.layers import Division, GroupEntry, LayerMeasurements, LayersEntry
from mergekit_geo.records.losses import DataEntry, Estimate, SetEntry
from mergekit_geo.views.block import Block, Chart, Folded, Items, Paragraph, Section, Table
from mergekit_geo.views.chart import BarPanel, Bars, Dot, number, short_name
from mergekit_geo.views.losses import estimate, loss_unit

TITLE = "Which layers did it"
IN, OUT = "leave-one-in", "leave-one-out"
MOST_OF_IT = 0.5
"""Share of the rise from which on a group carries most of it."""
NAMES: dict[Division, str] = {"depth": "layers", "kind": "modules"}
"""Names of the files that hold the pictures."""


def layers_section(
    found: LayerMeasurements | None,
    data: DataEntry | None,
    sets: Mapping[str, SetEntry] | None = None,
    *,
    folded: bool = False,
) -> Section:
    """Rises by group, as pictures and tables, and the advice; empty where none were measured.

    Args:
        found: The rises.
        data: What loss was measured on.
        sets: The same of several sets, by name.
        folded: Whether tables are details.
    """
    if found is None:
        return Section(TITLE, ())
    known = {name: one.data for name, one in (sets or {}).items()}
    units = [loss_unit(known.get(entry.set, data)) for entry in found.sets]
    told = [_told(entry) for entry in found.sets]
    advice = [found.proposal.advice] if found.proposal else []
    blocks: list[Block] = [Items([*told, *advice]), _proposed(found), Paragraph(_about(found))]
    for division, name in NAMES.items():
        caption = f"Rise of the loss by {'layers' if division == 'depth' else 'kind of module'}"
        blocks.append(Chart(bars(found.sets, division, units), caption, name))
        table = _table(found.sets, division)
        blocks.append(Folded("every group", [table]) if folded else table)
    if found.proposal is not None:
        tried = [[title, number(loss)] for title, loss in sorted(found.proposal.steps, key=_loss)]
        blocks.append(Folded("what was tried", [Table(["tried", "loss, selection half"], tried)]))
    return Section(TITLE, blocks)


def _loss(step: tuple[str, float | None]) -> float:
    """What is sorted by; what loses a set that is to be kept comes last."""
    return math.inf if step[1] is None else step[1]


def layers_headline(found: LayerMeasurements | None) -> list[str]:
    """The advice in a sentence; without one, what carries most."""
    if found is None:
        return []
    return [found.proposal.advice] if found.proposal else [_most(entry) for entry in found.sets]


def _most(entry: LayersEntry) -> str:
    """The groups by depth that cost most by themselves, and whose return helps most."""
    if not entry.rise.is_significant or entry.rise.number < 0:
        return f"The mean is not significantly worse than {entry.better}{_on(entry)}."
    groups = [group for group in entry.groups if group.division == "depth"]
    first = max(groups, key=lambda group: group.rise_in.number)
    last = max(groups, key=lambda group: group.rise_out.number)
    back = "giving it back" if first is last else f"giving back {last.group} alone"
    return (
        f"From {entry.better} to the mean{_on(entry)}, most comes with {first.group} alone "
        f"({_share(first.share_in)} of the rise), and {back} saves most "
        f"({_share(last.share_out)})."
    )


def carrier(found: LayerMeasurements | None) -> str:
    """The group by depth that saves most of the rise when it alone is given back, on some set.

    Empty where no group does, as far as can be told.
    """
    shares = [
        (group.share_out.low, group.group)
        for entry in (found.sets if found else [])
        for group in entry.groups
        if group.division == "depth" and group.share_out and group.share_out.low is not None
    ]
    low, name = max(shares, default=(0.0, ""))
    return name if low >= MOST_OF_IT else ""


def _on(entry: LayersEntry) -> str:
    return f" on {entry.set}" if entry.set else ""


def _told(entry: LayersEntry) -> str:
    """The whole rise, and how the shares add up."""
    rise = f"From {entry.better} to the mean the loss rises by {estimate(entry.rise)}{_on(entry)}"
    sums = [_sum(entry, name) for name in ("share_in", "share_out")]
    if None in sums:
        return f"{rise}: too little to be shared out."
    return (
        f"{rise}. By layers, {IN} adds up to {_percent(sums[0])} of it and {OUT} to "
        f"{_percent(sums[1])}; what differs from 100 % is what layers do together."
    )


def _percent(share: float | None) -> str:
    return "" if share is None else percent(share)


def _sum(entry: LayersEntry, name: str) -> float | None:
    shares = [getattr(group, name) for group in entry.groups if group.division == "depth"]
    known = [share.number for share in shares if share is not None]
    return sum(known) if known and len(known) == len(shares) else None


def _proposed(found: LayerMeasurements) -> Table:
    """How the proposed weights do on the report half: a row for each set."""
    entries = [entry for entry in found.sets if entry.proposed]
    if not entries:
        return Table([], [])
    others = [f"Δ proposed − {one.model} ↓" for one in entries[0].proposed]
    rows = [
        [entry.set or "proposed weights, report half", *map(estimate, entry.proposed)]
        for entry in entries
    ]
    return Table(["proposed weights, report half" if entries[0].set else "", *others], rows)


def _about(found: LayerMeasurements) -> str:
    entry = found.sets[0]
    where = ", ".join(f"{one.documents} documents{_on(one)}" for one in found.sets)
    weights = ", ".join(f"{weight:.3g}" for weight in entry.weights)
    return (
        f"{IN.capitalize()}: the better model with one group at the mean (weights {weights}), "
        f"minus the better model. {OUT.capitalize()}: the mean, minus the mean with that group "
        f"back at the better model. Paired, on {where} (the report half); which model is better, "
        "and what is proposed, was chosen on the other half."
    )


def bars(entries: Sequence[LayersEntry], division: Division, units: Sequence[str]) -> Bars:
    """Rises of groups, both ways, with their shares beside them; a panel for each set.

    Args:
        entries: Of the same groups.
        division: Which of them.
        units: What loss is counted in on each set.
    """
    panels = []
    for entry, unit in zip(entries, units, strict=True):
        groups = [group for group in entry.groups if group.division == division]
        panels.append(
            BarPanel(
                f"{entry.set + ': ' if entry.set else ''}rise of the loss ({unit})",
                [[_dot(group.rise_in) for group in groups], [_dot(g.rise_out) for g in groups]],
                [[_share(group.share_in) for group in groups],
                 [_share(group.share_out) for group in groups]],
            )
        )  # fmt: skip
    rows = [group.group for group in entries[0].groups if group.division == division]
    better = " or ".join(dict.fromkeys(short_name(entry.better) for entry in entries))
    caption = (
        f"Lines are paired 95 % intervals over documents of the report half; per cents are shares "
        f"of the whole rise from {better} to the mean."
    )
    return Bars(rows, [f"{IN} (group at the mean)", f"{OUT} (group given back)"], panels, caption)


def _dot(found: Estimate) -> Dot | None:
    return None if found.value is None else Dot(found.value, found.low, found.high)


def _share(found: Estimate | None) -> str:
    return "" if found is None or found.value is None else f"{_hundredths(found.value)} %"


def _hundredths(share: float | None) -> int | None:
    """A share in whole per cents, without a minus zero."""
    return None if share is None else round(100 * share)


def _table(entries: Sequence[LayersEntry], division: Division) -> Table:
    head = [
        "layers" if division == "depth" else "modules", "parameters", f"{IN} ↓", "share",
        f"{OUT} ↓", "share",
    ]  # fmt: skip
    rows = [
        [*([entry.set] if entry.set else []), *_row(group)]
        for entry in entries
        for group in entry.groups
        if group.division == division
    ]
    return Table(["set", *head] if entries[0].set else head, rows)


def _row(group: GroupEntry) -> list[str]:
    return [
        group.group,
        f"{group.parameters:,}",
        estimate(group.rise_in),
        _with_ends(group.share_in),
        estimate(group.rise_out),
        _with_ends(group.share_out),
    ]


def _with_ends(share: Estimate | None) -> str:
    if share is None or share.low is None or share.high is None:
        return _share(share)
    return f"{_share(share)} [{_hundredths(share.low)}, {_hundredths(share.high)}]"


def layers_files(found: LayerMeasurements | None) -> dict[str, Callable[[], bytes]]:
    """CSV of all rises, one row a group and set; no file where none were measured."""
    return {"layers.csv": partial(_csv, found.sets)} if found else {}


def _csv(entries: Sequence[LayersEntry]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    kinds = ("rise_in", "rise_out", "share_in", "share_out")
    ends = [f"{kind}{end}" for kind in kinds for end in ("", "_low", "_high")]
    writer.writerow(["set", "division", "group", "parameters", *ends])
    for entry in entries:
        for group in entry.groups:
            found = [getattr(group, kind) for kind in kinds]
            numbers = [x for one in found for x in _ends(one)]
            writer.writerow([entry.set, group.division, group.group, group.parameters, *numbers])
    return text.getvalue().encode()


def _ends(found: Estimate | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if found is None else (found.value, found.low, found.high)
