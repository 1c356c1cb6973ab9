"""Landscapes: the loss on planes of weight space, from above and to turn."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import hypot

import numpy as np
from numpy.typing import NDArray

from mergekit_geo.records.findings import percent
from mergekit_geo.records.landscape import (
    AxisEntry,
    LandscapeMeasurements,
    LandscapeSetEntry,
    MarkEntry,
    SurfaceEntry,
)
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.records.report import Report
from mergekit_geo.views import html
from mergekit_geo.views.block import FIGURES, Block, Chart, Link, Paragraph, Section, View
from mergekit_geo.views.chart import HeightMap, HeightMaps, Marker, Relief, short_name
from mergekit_geo.views.losses import describe_data
from mergekit_geo.views.sets import models_by_set
from mergekit_geo.views.trajectory import briefs, named, trails, trajectory_blocks, trajectory_lines

SURFACES = "landscape.html"
Measured = LandscapeMeasurements | LandscapeSetEntry
"""Planes on the only set, or on one of several."""
NEGLIGIBLE = 1e-3
"""Share of a picture's size: a model nearer to the plane is drawn as lying on it."""


def view(report: Report, found: LandscapeMeasurements) -> View:
    """View of a landscape: contours of every plane, with the models on them."""
    sheets: dict[str, tuple[Measured, DataEntry | None]] = {
        name: (one, one.data) for name, one in found.sets.items()
    } or {"": (found, report.data)}
    more = [Link("The same as surfaces to turn", f"{FIGURES}/{SURFACES}")] if report.output else []
    pictures = [_picture(name, *one) for name, one in sheets.items()]
    blocks = [
        models_by_set("Models", found.sets, found.losses, report.data),
        *pictures[:-1],
        replace(pictures[-1], blocks=[*pictures[-1].blocks, *more]),
    ]
    headline = [
        f"{name}: {line}." if name else f"{line}."
        for name, (one, _) in sheets.items()
        for line in landscape_lines(one)
    ]
    numbers = {f"landscape{_suffix(n)}.npz": partial(_npz, one) for n, (one, _) in sheets.items()}
    return View(headline, blocks, {**numbers, SURFACES: partial(_page, headline, sheets)})


def _picture(name: str, found: Measured, data: DataEntry | None) -> Section:
    """Planes on one set, from above."""
    title = f"Loss on planes of weight space{f', {name}' if name else ''}"
    picture = Chart(surfaces(found, data), title, f"landscape{_suffix(name)}")
    places = [block for surface in found.surfaces for block in trajectory_blocks(surface)]
    return Section(f"Planes: {name}" if name else "Planes", [picture, *places])


def _suffix(name: str) -> str:
    """What files of one of several sets are called behind the name of the first part."""
    return name and f"-{name}"


def _page(
    headline: Sequence[str], sheets: Mapping[str, tuple[Measured, DataEntry | None]]
) -> bytes:
    """A page of its own for surfaces to turn, a section for each set."""
    blocks: list[Block] = []
    for name, (found, data) in sheets.items():
        seen = surfaces(found, data)
        relief = Relief(seen.panels, seen.scale, seen.title, seen.caption)
        blocks += [Paragraph(f"Measured on {describe_data(data)}.")] if data else []
        blocks.append(Section(f"Planes: {name}" if name else "Planes", [Chart(relief)]))
    page = html.Page("Loss landscape", headline, blocks)
    return "".join(page.pieces()).encode()


def landscape_lines(found: Measured) -> list[str]:
    """What was measured on every plane, and how far models lie off it."""
    return [
        line
        for surface in found.surfaces
        for line in (_measured(surface), *trajectory_lines(surface), *_off(surface))
    ]


def _measured(surface: SurfaceEntry) -> str:
    known = [loss for row in surface.loss for loss in row if loss is not None]
    losses = f"loss from {min(known):.4f} to {max(known):.4f}" if known else "no finite loss"
    count = len(surface.x) * len(surface.y)
    holes = f", not finite at {count - len(known)}" if 0 < len(known) < count else ""
    told = _through(surface)
    return f"{told[:1].upper()}{told[1:]}: {_points(surface)}, {losses}{holes}"


def _points(surface: SurfaceEntry) -> str:
    return f"{len(surface.x)} x {len(surface.y)} points"


def _off(surface: SurfaceEntry) -> list[str]:
    path = briefs(surface)
    return [
        f"{mark.model} lies {mark.off_plane:.4g} off this plane, nearest to "
        f"({mark.x:.4g}, {mark.y:.4g})"
        for i, mark in enumerate(surface.marks)
        if not mark.spans and i not in path
    ]


def _through(surface: SurfaceEntry) -> str:
    names = [mark.model for mark in surface.marks if mark.spans]
    values = [axis.eigenvalue for axis in surface.axes if axis.eigenvalue is not None]
    if values:
        return f"around {names[0]}, eigenvectors of {values[0]:.4g} and {values[1]:.4g}"
    return _going(surface, names)


def _going(surface: SurfaceEntry, names: Sequence[str]) -> str:
    if surface.kind == "plane":
        return f"the plane through {names[0]}, {names[1]} and {names[2]}"
    if surface.trajectory is not None:
        return f"the principal plane of {named(surface.trajectory)}"
    if surface.kind == "line":
        return f"the line through {names[0]} and {names[1]}, and a random direction"
    return f"around {names[0]}"


def surfaces(found: Measured, data: DataEntry | None) -> HeightMaps:
    """Picture of every plane, with one scale.

    Args:
        found: What was measured.
        data: On what.
    """
    unit = data.unit if data else "example"
    above = f", logarithmic above {found.scale.low:.4g}" if found.scale.log else ""
    about = f"{describe_data(data)}; " if data else ""
    caption = f"{about}{_points(found.surfaces[0])}"
    panels = [_surface(surface) for surface in found.surfaces]
    return HeightMaps(panels, found.scale, f"loss per {unit}{above}", caption)


def _surface(entry: SurfaceEntry) -> HeightMap:
    spanning = [short_name(mark.model) for mark in entry.marks if mark.spans]
    axes = [_axis(axis, number, spanning) for number, axis in enumerate(entry.axes)]
    words = briefs(entry)
    marks = [replace(_mark(mark, entry), brief=words.get(i)) for i, mark in enumerate(entry.marks)]
    title, paths = _going(entry, spanning), trails(entry)
    return HeightMap(title, axes[0], axes[1], entry.x, entry.y, entry.loss, marks, paths)


def _mark(mark: MarkEntry, entry: SurfaceEntry) -> Marker:
    places = zip(entry.axes, (entry.x, entry.y), strict=True)
    size = hypot(*(axis.length * (ends[-1] - ends[0]) for axis, ends in places))
    return Marker(
        short_name(mark.model), mark.x, mark.y, off=mark.off_plane, height=mark.loss,
        spans=mark.spans, on=mark.off_plane < NEGLIGIBLE * size,
    )  # fmt: skip


def _axis(axis: AxisEntry, number: int, names: Sequence[str]) -> str:
    """What a coordinate is, with its unit."""
    if axis.kind == "eigenvector":
        return f"distance along eigenvector {number + 1} (λ = {axis.eigenvalue:.3g})"
    if axis.explained is not None:
        return f"principal direction {number + 1} ({percent(axis.explained)} of the variance)"
    if axis.kind == "random":
        return _random_axis(axis, number, names)
    if number == 0:
        return f"distance from {names[0]} towards {names[1]}"
    return f"distance from the line of {names[0]} and {names[1]}"


def _random_axis(axis: AxisEntry, number: int, names: Sequence[str]) -> str:
    """A random direction beside a line, or one of two around a model."""
    which = f"random direction {number + 1}" if len(names) == 1 else "a random direction"
    if axis.unit == "filter norms":
        return f"{which}, in filter norms"
    if axis.filter_norms is None:
        return f"distance along {which}, not normalized"
    return f"distance along {which} (1 = {axis.filter_norms:.2g} filter norms)"


def _npz(found: Measured) -> bytes:
    """The numbers of all surfaces, stacked: s surfaces, y rows, x points, m marks of each.

    `x` (s, x), `y` (s, y), `loss` (s, y, x) with NaN where it is not a number, `metric` likewise if
    there is one, `models` (s, m) names, `places` (s, m, 3): x, y, distance off. Of a trajectory:
    `path`, numbers of marks in the order of training, run after run, with the run of each in
    `runs`, and `explained` (2,), the share of variance along each axis.
    """
    those = found.surfaces
    places = [[(m.x, m.y, m.off_plane) for m in surface.marks] for surface in those]
    arrays: dict[str, NDArray[np.generic]] = {
        "x": np.array([surface.x for surface in those]),
        "y": np.array([surface.y for surface in those]),
        "loss": np.array([surface.loss for surface in those], dtype=np.float64),
        "models": np.array([[mark.model for mark in surface.marks] for surface in those]),
        "places": np.array(places),
    }
    if (path := those[0].trajectory) is not None:
        arrays["runs"] = np.array([run.name for run in path.runs for _ in run.marks])
        arrays["path"] = np.array([i for run in path.runs for i in run.marks])
        arrays["explained"] = np.array([axis.explained for axis in those[0].axes])
    metrics = [surface.metric for surface in those if surface.metric is not None]
    if metrics:
        arrays["metric"] = np.array(metrics, dtype=np.float64)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()
