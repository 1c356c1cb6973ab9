"""Paths of trainings on a plane: what they are called, what the plane explains, how far off."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mergekit_geo.records.findings import percent
from mergekit_geo.records.landscape import MarkEntry, RunEntry, SurfaceEntry, TrajectoryEntry
from mergekit_geo.views.block import Block, Paragraph, Table
from mergekit_geo.views.chart import Trail, number, short_name

APART = 0.07
"""Share of a picture's sides by which two labels are apart at least."""
CAUTION = (
    "Two directions explain much of any path: a random walk in many dimensions has 61 % and 15 % "
    "of its variance along them (Antognini & Sohl-Dickstein 2018)"
)


def names_of(found: TrajectoryEntry) -> list[str]:
    """What the trainings are called: without their folders, where that tells them apart."""
    short = [short_name(run.name) for run in found.runs]
    return short if len(set(short)) == len(short) else [run.name for run in found.runs]


def named(found: TrajectoryEntry) -> str:
    """The trainings, and how many checkpoints they have together."""
    names = list(filter(None, names_of(found)))
    count = len({mark for run in found.runs for mark in run.marks})
    return f"{count} checkpoints{' of ' if names else ''}{' and '.join(names)}"


def trajectory_lines(surface: SurfaceEntry) -> list[str]:
    """What the plane explains of the path, and how far off it the path lies."""
    found = surface.trajectory
    if found is None:
        return []
    first, second = (percent(axis.explained or 0.0) for axis in surface.axes)
    said = f"The axes explain {first} and {second} of the variance of the checkpoints"
    if found.random_walk is None:
        return [said, CAUTION, _farthest(surface, found)]
    walk = " and ".join(percent(share) for share in found.random_walk)
    said += f"; a random walk with the same steps would have {walk}"
    return [said, _farthest(surface, found)]


def _farthest(surface: SurfaceEntry, found: TrajectoryEntry) -> str:
    """How far off the plane the path lies, beside how long it is."""
    marks = [surface.marks[i] for run in found.runs for i in run.marks]
    far = max(marks, key=lambda mark: mark.off_plane)
    start = surface.marks[found.runs[0].marks[0]]
    length = math.hypot(start.x, start.y, start.off_plane)
    return (
        f"The checkpoints lie up to {far.off_plane:.3g} off this plane ({far.model}); "
        f"{start.model} is {length:.3g} from the end"
    )


def trajectory_blocks(surface: SurfaceEntry) -> list[Block]:
    """Where each checkpoint lies; nothing where no training is followed."""
    found = surface.trajectory
    if found is None:
        return []
    rows = [_row(surface.marks[i], step) for run in found.runs for i, step in _steps(run)]
    note = (
        "The path on the plane: coordinates are distances along the axes, from the last checkpoint."
    )
    return [Paragraph(note), Table(["checkpoint", "step", "loss", "x", "y", "off the plane"], rows)]


def _row(mark: MarkEntry, step: int | None) -> list[str]:
    return [
        mark.model, "" if step is None else str(step), number(mark.loss),
        f"{mark.x:.3g}", f"{mark.y:.3g}", f"{mark.off_plane:.3g}",
    ]  # fmt: skip


def _steps(run: RunEntry) -> Iterator[tuple[int, int | None]]:
    """Numbers of the marks of a run, with their steps."""
    return zip(run.marks, run.steps, strict=True)


def trails(surface: SurfaceEntry) -> list[Trail]:
    """Paths of the trainings over a plane."""
    found = surface.trajectory
    if found is None:
        return []
    return [
        _trail(name, [surface.marks[i] for i in run.marks])
        for name, run in zip(names_of(found), found.runs, strict=True)
    ]


def _trail(name: str, marks: Sequence[MarkEntry]) -> Trail:
    places = [mark.x for mark in marks], [mark.y for mark in marks]
    return Trail(name or "path", *places, [mark.loss for mark in marks])


def briefs(surface: SurfaceEntry) -> dict[int, str]:
    """What stands beside the checkpoints of a path, by the number of the mark.

    Steps: of the ends of each path, and of what lies between where there is room.
    """
    found = surface.trajectory
    if found is None:
        return {}
    words = {i: _brief(surface.marks[i], step) for run in found.runs for i, step in _steps(run)}
    shown: list[MarkEntry] = []
    ends = [i for run in found.runs for i in (run.marks[-1], run.marks[0])]
    for i in dict.fromkeys([*ends, *words]):
        mark = surface.marks[i]
        if i not in ends and any(_is_near(mark, other, surface) for other in shown):
            words[i] = ""
        else:
            shown.append(mark)
    return words


def _brief(mark: MarkEntry, step: int | None) -> str:
    return short_name(mark.model) if step is None else str(step)


def _is_near(first: MarkEntry, second: MarkEntry, surface: SurfaceEntry) -> bool:
    width, depth = surface.x[-1] - surface.x[0], surface.y[-1] - surface.y[0]
    return math.hypot((first.x - second.x) / width, (first.y - second.y) / depth) < APART
