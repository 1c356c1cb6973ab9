"""Landscapes in words: titles, labels, and lines for people."""

from __future__ import annotations

from math import hypot

from mergekit_geo.records.landscape import (
    AxisEntry,
    LandscapeMeasurements,
    MarkEntry,
    ScaleEntry,
    SurfaceEntry,
)
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.views.palette import short_name

NEGLIGIBLE = 1e-3
"""Share of a picture's size: a model nearer to the plane is drawn as lying on it."""


def landscape_lines(found: LandscapeMeasurements) -> list[str]:
    """What was measured on every plane, and how far models lie off it."""
    return [line for surface in found.surfaces for line in (_measured(surface), *_off(surface))]


def _measured(surface: SurfaceEntry) -> str:
    known = [loss for row in surface.loss for loss in row if loss is not None]
    losses = f"loss from {min(known):.4f} to {max(known):.4f}" if known else "no finite loss"
    count = len(surface.x) * len(surface.y)
    holes = f", not finite at {count - len(known)}" if 0 < len(known) < count else ""
    grid = f"{len(surface.x)} x {len(surface.y)} points"
    return f"{_through(surface)}: {grid}, {losses}{holes}"


def _off(surface: SurfaceEntry) -> list[str]:
    return [
        f"{mark.model} lies {mark.off_plane:.4g} off this plane, nearest to "
        f"({mark.x:.4g}, {mark.y:.4g})"
        for mark in surface.marks
        if not mark.spans
    ]


def _through(surface: SurfaceEntry) -> str:
    names = [mark.model for mark in surface.marks if mark.spans]
    values = [axis.eigenvalue for axis in surface.axes if axis.eigenvalue is not None]
    if values:
        return f"around {names[0]}, eigenvectors of {values[0]:.4g} and {values[1]:.4g}"
    return _going(surface, names)


def _going(surface: SurfaceEntry, names: list[str]) -> str:
    if surface.kind == "plane":
        return f"the plane through {names[0]}, {names[1]} and {names[2]}"
    if surface.kind == "line":
        return f"the line through {names[0]} and {names[1]}, and a random direction"
    return f"around {names[0]}"


def title_of(surface: SurfaceEntry) -> str:
    """What a plane goes through, with short names."""
    return _going(surface, [short(mark.model) for mark in surface.marks if mark.spans])


def axis_title(surface: SurfaceEntry, number: int) -> str:
    """What a coordinate is, with its unit."""
    axis, names = surface.axes[number], [short(mark.model) for mark in surface.marks]
    if axis.kind == "eigenvector":
        return f"distance along eigenvector {number + 1} (λ = {axis.eigenvalue:.3g})"
    if axis.kind == "random":
        return _random_title(axis, number)
    if number == 0:
        return f"distance from {names[0]} towards {names[1]}"
    return f"distance from the line of {names[0]} and {names[1]}"


def _random_title(axis: AxisEntry, number: int) -> str:
    if axis.unit == "filter norms":
        return f"random direction {number + 1}, in filter norms"
    return f"distance along a random direction (1 = {axis.filter_norms:.2g} filter norms)"


def label_of(mark: MarkEntry, surface: SurfaceEntry) -> str:
    """A model's name, and how far it lies off."""
    name = short(mark.model)
    return name if lies_on(mark, surface) else f"{name} ({mark.off_plane:.3g} off)"


def lies_on(mark: MarkEntry, surface: SurfaceEntry) -> bool:
    """Whether a model is on the plane, as far as can be seen."""
    size = [
        axis.length * (places[-1] - places[0])
        for axis, places in zip(surface.axes, (surface.x, surface.y), strict=True)
    ]
    return mark.off_plane < NEGLIGIBLE * hypot(*size)


def loss_title(data: DataEntry | None, scale: ScaleEntry) -> str:
    """What heights and colours mean."""
    unit = data.unit if data else "example"
    return f"loss per {unit}" + (f", logarithmic above {scale.low:.4g}" if scale.log else "")


def short(name: str) -> str:
    """A model's name without folders."""
    return short_name(name)
