"""Planes to be measured: through models, along a line, around one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.config.measures import LandscapeConfig
from mergekit_geo.curvature.model_eigenvectors import Eigenvectors
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.point import Point
from mergekit_geo.geometry.gram import Gram, Matrix
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.plane import Place, Plane
from mergekit_geo.landscapes.directions import direction, length_of
from mergekit_geo.landscapes.filters import Filters, filters_of
from mergekit_geo.landscapes.grid import around, beyond
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.gram import gram_of
from mergekit_geo.modules.blend import InPlace, Live
from mergekit_geo.modules.held import hold
from mergekit_geo.records.landscape import AxisEntry, TrajectoryEntry
from mergekit_geo.tasks.losses import Floats

PlaneKind = Literal["plane", "line", "around", "trajectory"]
LINE, PLANE = 2, 3
"""Models that a line, and a plane, goes through."""
STEP = AxisEntry(kind="model", unit="distance", length=1.0)


@dataclass(frozen=True)
class PlaneGrid:
    """A plane, and the part of it that is looked at.

    Attributes:
        kind: What it goes through.
        models: Numbers of the models that span it, the origin first.
        anchors: Origin and what spans, directions last.
        plane: Its geometry.
        places: Where models lie, by their number.
        x: Positions along the first coordinate.
        y: Along the second.
        axes: The two coordinates.
        key: Tells its directions from others.
        trajectory: The trainings that it follows, if it does.
    """

    kind: PlaneKind
    models: tuple[int, ...]
    anchors: tuple[Checkpoint, ...]
    plane: Plane
    places: Mapping[int, Place]
    x: Floats
    y: Floats
    axes: tuple[AxisEntry, AxisEntry]
    key: str = ""
    trajectory: TrajectoryEntry | None = None

    def model_at(self, rule: Linear) -> int | None:
        """The model that a point is, to the bit; None where it is none."""
        if sum(weight != 0 for weight in rule.weights) > 1:
            return None
        weights = zip(self.models, rule.weights, strict=False)
        return next((number for number, weight in weights if weight == 1), None)

    def at(self, rule: Linear, title: str) -> Point:
        """A point of the plane. Steps along a direction are not rounded to half precision."""
        halves = {info.dtype for info in self.anchors[0].tensors.values()} & {"BF16", "F16"}
        dtype = "F32" if rule.directions and halves else None
        key, directions = (
            f"{self.key} {self.models} {rule.weights!r}",
            self.anchors[len(self.models) :],
        )
        return Point(rule, title, key, self.models, directions, dtype=dtype)


def through_models(anchors: Sequence[Checkpoint], view: LandscapeConfig) -> PlaneGrid:
    """The plane through the first three models, the others projected on it.

    Raises:
        ArgumentError: They are equal, or lie on one line.
    """
    gram = gram_at(anchors)
    require_different(anchors[:PLANE], gram.distances)
    names = ", ".join(anchor.name for anchor in anchors[:PLANE])
    try:
        plane = Plane.through_models(gram)
    except ArgumentError as error:
        raise ArgumentError(
            f"{names} lie on one line, and many planes go through it",
            remedy="name models of which none is a mixture of the others, or two of them",
        ) from error
    places = {i: plane.place(i - 1) for i in range(len(anchors))}
    across = [places[i].x for i in range(PLANE)]
    up = [places[i].y for i in range(PLANE)]
    x, y = (beyond(min(c), max(c), view.margin, view.grid) for c in (across, up))
    return PlaneGrid("plane", (0, 1, 2), tuple(anchors[:PLANE]), plane, places, x, y, (STEP, STEP))


def require_two(anchors: Sequence[Checkpoint]) -> None:
    """Refuse a line through equal models.

    Raises:
        ArgumentError: They are equal.
    """
    require_different(anchors[:LINE], gram_at(anchors[:LINE]).distances)


class Directions:
    """Makes random directions at models, with one module's filters.

    Args:
        live: The module.
        seed: The same seed draws the same numbers for every model.
        mode: Whether directions are kept in memory: `auto`, `on` or `off`.
        normalized: Whether they are normalised filter by filter.
    """

    def __init__(self, live: Live, seed: int, mode: str, *, normalized: bool = True) -> None:
        self.live, self.seed, self.mode, self.normalized = live, seed, mode, normalized

    @property
    def key(self) -> str:
        """Key that identifies these directions."""
        return f"seed {self.seed}" + ("" if self.normalized else ", as drawn")

    def length_at(self, model: Checkpoint) -> float:
        """Length of a direction that is normalised to the filters of a model."""
        return length_of(model, self._filters(model))

    def at(self, model: Checkpoint, count: int) -> tuple[Checkpoint, ...]:
        """Draw `count` random directions at a model.

        Raises:
            ArgumentError: The model has nothing but norms and biases.
        """
        filters, twins = self._filters(model), self._twins()
        made = [
            direction(
                model, filters, self.seed * count + i, f"direction {i + 1}", twins,
                normalized=self.normalized,
            )
            for i in range(count)
        ]  # fmt: skip
        return hold(made, self.mode)

    @property
    def _names(self) -> Mapping[str, str]:
        return self.live.names if isinstance(self.live, InPlace) else {}

    def _filters(self, model: Checkpoint) -> dict[str, Filters]:
        filters = filters_of(self.live.model, self._names, model.tensors)
        if not filters:
            raise ArgumentError(
                "no tensor has filters that a direction could be normalised by",
                where=model.name,
                remedy="name three models: the plane through them needs no direction",
            )
        return filters

    def _twins(self) -> dict[str, str]:
        """Stored tensors that are one in the module: all are drawn as the first of them."""
        state = self.live.model.state_dict()
        first: dict[int, str] = {}
        return {
            stored: first.setdefault(state[own].data_ptr(), stored)
            for stored, own in self._names.items()
        }


def line_and_direction(
    anchors: Sequence[Checkpoint], directions: Directions, view: LandscapeConfig
) -> PlaneGrid:
    """The line through the first two models, and a random direction at the first.

    The grid reaches as far beside the line as along it.
    """
    (beside,) = directions.at(anchors[0], 1)
    gram = gram_at([*anchors[:LINE], beside, *anchors[LINE:]])
    plane = Plane.through_models(gram, directions=(LINE,))
    places = {i: plane.place(i - 1 if i < LINE else i) for i in range(len(anchors))}
    x = beyond(0.0, places[1].x, view.margin, view.grid)
    y = around((x[-1] - x[0]) / 2, view.grid)
    norms = 1 / float(gram.norms[LINE]) if directions.normalized else None
    up = AxisEntry(kind="random", unit="distance", length=1.0, filter_norms=norms)
    spanning = (*anchors[:LINE], beside)
    return PlaneGrid("line", (0, 1), spanning, plane, places, x, y, (STEP, up), directions.key)


def around_model(
    number: int,
    model: Checkpoint,
    others: Mapping[int, Checkpoint],
    directions: Directions,
    view: LandscapeConfig,
) -> PlaneGrid:
    """Two random directions at a model, the others projected on their plane.

    Coordinates are in filter norms, or distances along directions that are not normalised.

    Args:
        number: Of the model.
        model: In the middle.
        others: By number.
        directions: Makes them.
        view: How far they are followed.
    """
    spanning = directions.at(model, 2)
    gram = gram_at([model, *spanning, *others.values()])
    plane = Plane.of_directions(gram, distances=not directions.normalized)
    first, second = (
        AxisEntry(kind="random", unit="filter norms", length=unit, filter_norms=1.0)
        if directions.normalized
        else AxisEntry(kind="random", unit="distance", length=unit)
        for unit in plane.units
    )
    x = around(1.0 if view.radius is None else view.radius, view.grid)
    places, anchors = _places(number, others, plane), (model, *spanning)
    axes = (first, second)
    return PlaneGrid("around", (number,), anchors, plane, places, x, x, axes, directions.key)


def along_eigenvectors(
    number: int,
    model: Checkpoint,
    others: Mapping[int, Checkpoint],
    found: Eigenvectors,
    view: LandscapeConfig,
    mode: str,
) -> PlaneGrid:
    """The top two eigenvectors of the Hessian at a model.

    Args:
        number: Of the model.
        model: In the middle.
        others: By number.
        found: The eigenvectors.
        view: How far they are followed; it says the radius.
        mode: Whether they are kept in memory.
    """
    assert view.radius is not None
    spanning = hold(found.anchors, mode)
    plane = Plane.of_directions(gram_at([model, *spanning, *others.values()]))
    first, second = (
        AxisEntry(kind="eigenvector", unit="distance", length=unit, eigenvalue=value)
        for unit, value in zip(plane.units, found.values, strict=True)
    )
    x = around(view.radius, view.grid)
    places, anchors = _places(number, others, plane), (model, *spanning)
    axes = (first, second)
    return PlaneGrid(
        "around", (number,), anchors, plane, places, x, x, axes, f"eigenvectors {found.key}"
    )


def _places(number: int, others: Mapping[int, Checkpoint], plane: Plane) -> dict[int, Place]:
    """Places of the model at the origin, and of others, whose offsets follow the directions'."""
    return {number: plane.place(-1)} | {o: plane.place(2 + i) for i, o in enumerate(others)}


def require_different(
    anchors: Sequence[Checkpoint], distances: Matrix, remedy: str = "name models that differ"
) -> None:
    """Refuse models of which two are equal.

    Args:
        anchors: The models.
        distances: Between these, and others behind them.
        remedy: What is to be done.

    Raises:
        ArgumentError: It names them.
    """
    for i, j in combinations(range(len(anchors)), 2):
        if distances[i, j] == 0:
            raise ArgumentError(
                f"{anchors[i].name} and {anchors[j].name} are equal: they span nothing",
                remedy=remedy,
            )


def gram_at(anchors: Sequence[Checkpoint]) -> Gram:
    """Gram matrix of anchors over all parameters, in float64."""
    weights = (1.0, *[0.0] * (len(anchors) - 1))
    return gram_of(Blend(tuple(anchors), Linear(weights), "F64"), allow_nonfinite=False)
