"""How a report tells of landscapes: the loss on grids of planes in weight space."""

from __future__ import annotations

from typing import ClassVar, Literal

from mergekit_geo.records import Record, Sparse
from mergekit_geo.records.losses import Finite, LossEntry, SetEntry

Grid = list[list[Finite]]


class AxisEntry(Sparse):
    """A coordinate of a plane.

    Attributes:
        kind: Towards another `model`; along a `random` direction, normalised filter by filter (Li
            2018); along an `eigenvector` of the Hessian; along a `principal` direction of the
            checkpoints of trainings.
        unit: `distance` in weight space, or `filter norms`: 1 is a step as long as the weights.
        length: Euclidean length of one unit.
        filter_norms: Of one unit along a random direction; null for others.
        eigenvalue: Of an eigenvector.
        explained: Share of the variance of the checkpoints along a principal direction.
    """

    only_if_held: ClassVar[tuple[str, ...]] = ("explained",)

    kind: Literal["model", "random", "eigenvector", "principal"]
    unit: Literal["distance", "filter norms"]
    length: float
    filter_norms: float | None = None
    eigenvalue: float | None = None
    explained: float | None = None


class RunEntry(Record):
    """A training on a plane.

    Attributes:
        name: The folder of its checkpoints, or what their names have in common.
        marks: Its checkpoints' numbers among the marks, in the order of training.
        steps: Of each; null where its name has none.
    """

    name: str
    marks: list[int]
    steps: list[int | None]


class TrajectoryEntry(Record):
    """Trainings on the plane of the principal directions of their checkpoints (Li 2018).

    Attributes:
        runs: The trainings.
        random_walk: Shares of the variance that a random walk with the steps of the only run would
            have along two principal directions (Antognini & Sohl-Dickstein 2018); null for several.
    """

    runs: list[RunEntry]
    random_walk: list[float] | None


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


class SurfaceEntry(Sparse):
    """The loss on a plane.

    Attributes:
        kind: `plane` through three models, `line` of two and a direction, `around` one model,
            `trajectory` along the principal directions of checkpoints.
        axes: The two coordinates.
        cosine: Of what spans the plane: two models seen from the first, or directions.
        x: Positions along the first.
        y: Positions along the second.
        loss: A row for each y; null where it is not a number.
        metric: The task's metric likewise; null where the task has none.
        marks: Models; the origin is the first, and on a trajectory's plane the one that spans it.
        trajectory: The trainings on the plane, where it follows some.
    """

    only_if_held: ClassVar[tuple[str, ...]] = ("trajectory",)

    kind: Literal["plane", "line", "around", "trajectory"]
    axes: list[AxisEntry]
    cosine: float
    x: list[float]
    y: list[float]
    loss: Grid
    metric: Grid | None
    marks: list[MarkEntry]
    trajectory: TrajectoryEntry | None = None


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
