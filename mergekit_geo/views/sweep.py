"""A sweep between two models: the loss over t on every set, and one set against another."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from itertools import chain, combinations

from mergekit_geo.records.losses import DataEntry, Estimate
from mergekit_geo.records.sweep import SweepEntry, SweepPoint
from mergekit_geo.views.block import Chart, Folded, Paragraph, Section, Table
from mergekit_geo.views.chart import NumberTable, number, short_name
from mergekit_geo.views.losses import loss_unit, share_difference
from mergekit_geo.views.scatter import Points, ScatterPanel, Scatters
from mergekit_geo.views.style import style

MOST_PAIRS = 3
"""Most pairs of sets that are drawn against each other."""
LABELLED = 0.25
"""Distance in t of the places that have a number beside them in a plane."""
NEAR = 1e-9
ROOM = 0.12
"""Share of a plane's height that is left free below and above its points."""


def sweep_section(found: SweepEntry | None, data: Mapping[str, DataEntry]) -> Section:
    """The places of a sweep, as a picture and a table; empty without one.

    Args:
        found: The sweep.
        data: What each set is, by its name; of one alone, by any.
    """
    if found is None:
        return Section("The sweep", ())
    first, second = short_name(found.first), short_name(found.second)
    about = Paragraph(
        f"From {first} (t = 0) to {second} (t = 1), on documents that did not choose; t = "
        f"{found.taken:.4g} was taken. Δ is the loss minus that of {second}."
    )
    chart = Chart(_picture(found, data), f"Loss from {first} to {second}", "sweep")
    details = [Folded(f"all of {_on(found, name, 'the sweep')}", [_table(found, name)])
               for name in found.sets]  # fmt: skip
    return Section("The sweep", [about, chart, _overview(found), *details])


def sweep_files(found: SweepEntry | None) -> dict[str, Callable[[], bytes]]:
    """All numbers of a sweep as CSV; no file without one."""
    return {} if found is None else {"sweep.csv": lambda: _csv(found)}


def _overview(found: SweepEntry) -> Table:
    """A row for each place, with the loss on every set; what was taken has a star."""
    head, columns = ["t"], [[_place(point, found) for point in next(iter(found.sets.values()))]]
    for name, points in found.sets.items():
        head += [f"{_on(found, name, 'loss')} ↓", f"Δ {_on(found, name, 'loss')} ↓"]
        columns.append([_told(point.loss) for point in points])
        columns.append([share_difference(point.from_second) for point in points])
    return Table(head, [*map(list, zip(*columns, strict=True))])


def _on(found: SweepEntry, name: str, alone: str) -> str:
    """The name of a set; another word where there is one set."""
    return name if len(found.sets) > 1 else alone


def _table(found: SweepEntry, name: str) -> Table:
    """A row for each place on one set, beside both ends."""
    points = found.sets[name]
    scored = any(point.metric for point in points)
    ends = (short_name(found.first), short_name(found.second))
    head = ["t", "loss ↓", *(f"− {end}" for end in ends)]
    rows = [
        [_place(point, found), _told(point.loss), share_difference(point.from_first),
         share_difference(point.from_second), *([_told(point.metric)] if scored else [])]
        for point in points
    ]  # fmt: skip
    return Table([*head, *(["score ↑"] if scored else [])], rows)


def _place(point: SweepPoint, found: SweepEntry) -> str:
    return f"{point.t:.4g}{' *' if is_taken(point, found) else ''}"


def is_taken(point: SweepPoint, found: SweepEntry) -> bool:
    """Whether the output stands at this place."""
    return abs(point.t - found.taken) < NEAR


def _told(found: Estimate | None) -> str:
    if found is None:
        return ""
    interval = "" if found.low is None else f" [{found.low:.4f}, {found.high:.4f}]"
    return f"{number(found.value)}{interval}"


def _picture(found: SweepEntry, data: Mapping[str, DataEntry]) -> Scatters:
    """Planes of two sets each, then a panel over t for each set."""
    pairs = [*combinations(found.sets, 2)][:MOST_PAIRS]
    planes = [_plane(found, across, up) for across, up in pairs]
    over_t = [_over_t(found, name) for name in found.sets]
    units = {loss_unit(one) for one in data.values()}
    against = "First, loss on one set against that on another, a point for each t; then over t. "
    caption = (
        f"{against if pairs else ''}Δ is the loss minus that of "
        f"{short_name(found.second)}, with paired 95 % intervals over documents; lower is better. "
        f"In {' and '.join(sorted(units))}. Star: what was taken."
    )
    return Scatters([*planes, *over_t], _numbers(found), caption)


def _plane(found: SweepEntry, across: str, up: str) -> ScatterPanel:
    x = [point.loss.number for point in found.sets[across]]
    y = [point.loss.number for point in found.sets[up]]
    return _panel(found, (x, y), (f"loss on {across} ↓", f"loss on {up} ↓"), ())


def _over_t(found: SweepEntry, name: str) -> ScatterPanel:
    points = found.sets[name]
    x, y = [point.t for point in points], [point.from_second.number for point in points]
    ends = [_ends(point.from_second) for point in points]
    on = f" on {name}" if len(found.sets) > 1 else ""
    return _panel(found, (x, y), ("t", f"Δ loss{on} ↓"), ends)


def _panel(
    found: SweepEntry,
    places: tuple[list[float], list[float]],
    titles: tuple[str, str],
    ends: list[tuple[float, float] | None] | tuple[()],
) -> ScatterPanel:
    points, (x, y) = next(iter(found.sets.values())), places
    texts = [f"t = {point.t:.4g}: {b:.4f}" for point, b in zip(points, y, strict=True)]
    labels = () if ends else _labels(points)
    star = [i for i, point in enumerate(points) if is_taken(point, found)]
    return ScatterPanel(
        *titles,
        [
            Points("places", style(0), x, y, texts, labels, ends, joined=True),
            Points(
                "taken", style(0, stands_out=True), [x[i] for i in star], [y[i] for i in star],
                [texts[i] for i in star],
            ),
        ],
        span=None if ends else _with_room(y),
    )  # fmt: skip


def _with_room(values: list[float]) -> tuple[float, float]:
    """Ends of an axis with room for numbers above the points."""
    room = ROOM * (max(values) - min(values)) or ROOM
    return min(values) - room, max(values) + room


def _labels(points: list[SweepPoint]) -> list[str]:
    """The t of some places, so that they do not cover each other."""
    step = max(1, round(LABELLED * (len(points) - 1)))
    return [f"{point.t:.2g}" if i % step == 0 else "" for i, point in enumerate(points)]


def _ends(found: Estimate) -> tuple[float, float] | None:
    return None if found.low is None or found.high is None else (found.low, found.high)


def _numbers(found: SweepEntry) -> NumberTable:
    """A row for each place on each set."""
    return ["set", "t", "loss", f"Δ {short_name(found.second)}"], [
        [name, f"{point.t:.4g}", _told(point.loss), _told(point.from_second)]
        for name, points in found.sets.items()
        for point in points
    ]


def _csv(found: SweepEntry) -> bytes:
    """All numbers, a row for each place on each set."""
    kinds = ("loss", "from_first", "from_second", "metric")
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    ends = [f"{kind}{end}" for kind in kinds for end in ("", "_low", "_high")]
    out.writerow(["set", "t", "taken", *ends])
    for name, points in found.sets.items():
        for point in points:
            cells = chain.from_iterable(_cells(getattr(point, kind)) for kind in kinds)
            out.writerow([name, point.t, int(is_taken(point, found)), *cells])
    return text.getvalue().encode()


def _cells(found: Estimate | None) -> list[float | None]:
    return [None] * 3 if found is None else [found.value, found.low, found.high]
