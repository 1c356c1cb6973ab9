"""How a report tells of landscapes: the loss on grids of planes in weight space."""

from __future__ import annotations

from typing import ClassVar, Literal

from mergekit_geo.records import Record, Sparse
from mergekit_geo.records.losses import Finite, LossEntry, SetEntry

Grid = list[list[Finite]]


class AxisEntry(Record):
    """A coordinate of a plane.

    Attributes:
        kind: Towards another `model`; along a `random` direction, normalised filter by filter (Li
            2018); along an `eigenvector` of the Hessian.
        unit: `distance` in weight space, or `filter norms`: 1 is a step as long as the weights.
        length: Euclidean length of one unit.
        filter_norms: Of one unit along a random direction; null for others.
        eigenvalue: Of an eigenvector.
    """

    kind: Literal["model", "random", "eigenvector"]
    unit: Literal["distance", "filter norms"]
    length: float
    filter_norms: float | None = None
    eigenvalue: float | None = None


class MarkEntry(Record):
    """Where a model lies.

    Attributes:
        model: Its name.
        spans: Whether the plane goes through it by construction.
        x: First coordinate of the nearest point of the plane.
        y: Second coordinate.
        off_plane: Euclidean distance from there.
        loss: Its own, wherever it lies.
    """

    model: str
    spans: bool
    loss: float
    x: float
    y: float
    off_plane: float


class SurfaceEntry(Record):
    """The loss on a plane.

    Attributes:
        kind: `plane` through three models, `line` of two and a direction, `around` one model.
        axes: The two coordinates.
        cosine: Of what spans the plane: two models seen from the first, or directions.
        x: Positions along the first.
        y: Positions along the second.
        loss: A row for each y; null where it is not a number.
        metric: The task's metric likewise; null where the task has none.
        marks: Models, the first of which is the origin.
    """

    kind: Literal["plane", "line", "around"]
    axes: list[AxisEntry]
    cosine: float
    x: list[float]
    y: list[float]
    loss: Grid
    metric: Grid | None
    marks: list[MarkEntry]


class ScaleEntry(Record):
    """The one colour scale of all surfaces of a report.

    Attributes:
        low: Where it begins.
        high: Where it ends.
        log: Whether colours are even in the logarithm of the height above `low`.
    """

    low: float
    high: float
    log: bool


class LandscapeSetEntry(SetEntry):
    """The loss on the same grids on one evaluation set.

    Attributes:
        surfaces: One, or one around each model.
        scale: Of their colours.
    """

    surfaces: list[SurfaceEntry]
    scale: ScaleEntry


class LandscapeMeasurements(Sparse):
    """Result of a landscape measurement; of several sets, on the first of them.

    Attributes:
        surfaces: One, or one around each model.
        scale: Of their colours.
        losses: Of the models themselves.
        sets: The same on every set, by its name; only where there are several.
    """

    only_if_held: ClassVar[tuple[str, ...]] = ("sets",)

    surfaces: list[SurfaceEntry]
    scale: ScaleEntry
    losses: list[LossEntry]
    sets: dict[str, LandscapeSetEntry] = {}
