"""The loss on paths between models, and the barriers there."""

from __future__ import annotations

from typing import ClassVar

from mergekit_geo.records import Record, Sparse
from mergekit_geo.records.layers import LayerMeasurements
from mergekit_geo.records.losses import Estimate, Finite, LossEntry, SetEntry
from mergekit_geo.records.model import Geometry


class BarrierEntry(Record):
    """Loss along a path between two models.

    Attributes:
        first: The model at t = 0.
        second: The model at t = 1.
        along: Kind of path, such as `linear`.
        t: Positions measured, in order.
        loss: At each, on the report half; null where it is not a number.
        metric: The task's metric at each; null where the task has none.
        barrier: Largest loss above the chord between the ends (Entezari 2021).
        barrier_mean: The same above the mean of the ends (Frankle 2020).
        error_barrier: Largest error (1 - metric) above the chord.
        t_max: Where the barrier is highest, found on the selection half.
        path_max: Largest loss on the path.
        path_mean: Mean loss over t.
        significant: Whether the barrier's interval lies above zero; null without an interval.
        verdict: The same in words.
        taken: t of the point that the merge took, chosen on the selection half.
        dip: Lowest loss above the chord.
        t_dip: Where that is, found on the selection half.
        threshold: Barriers below this are negligible: 2 % of the mean loss of the ends.
        documents: How many documents all this is of: those of the report half.
    """

    first: str
    second: str
    along: str
    t: list[float]
    loss: list[Finite]
    metric: list[Finite] | None
    barrier: Estimate
    barrier_mean: Estimate
    error_barrier: Estimate | None
    t_max: Finite
    path_max: Finite
    path_mean: Finite
    significant: bool | None
    verdict: str
    taken: float | None = None
    dip: Estimate | None = None
    t_dip: Finite = None
    threshold: Finite = None
    documents: int | None = None


class StabilityEntry(Record):
    """When a training enters the basin of its end (compare Frankle 2020).

    Attributes:
        steps: Of each checkpoint, in the order of the models; null where its name has none.
        to_next: Numbers of the paths from each checkpoint to the next one, among `pairs`.
        to_last: Numbers of the paths from each checkpoint to the last one.
        no_barrier_from: The first checkpoint from which on no path of these has a significant
            barrier; null where that holds of none before the last one.
        one_basin_from: The first from which on every barrier is negligible: below 2 % of the loss
            of its ends, where one of that size would have been detected.
    """

    steps: list[int | None]
    to_next: list[int]
    to_last: list[int]
    no_barrier_from: str | None
    one_basin_from: str | None


class Barriers(Sparse):
    """The barriers between models.

    Attributes:
        pairs: Every pair of models, along every path asked for; of a training's checkpoints each
            with the next one, then each with the last one.
        matrix: Barrier between models i and j along the first path; 0 where it is not significant,
            null where that is not known.
        basins: Models that are connected, largest basin first.
        threshold: Barriers below this connect, in nats.
    """

    pairs: list[BarrierEntry]
    matrix: list[list[Finite]]
    basins: list[list[str]]
    threshold: float


class BarrierSetEntry(Barriers, SetEntry):
    """The barriers between models on one evaluation set.

    Attributes:
        stability: When a training enters one basin, where the models are its checkpoints.
    """

    only_if_held: ClassVar[tuple[str, ...]] = ("stability",)

    stability: StabilityEntry | None = None


class BarrierMeasurements(Barriers):
    """Result of a barrier measurement; of several sets, on the first of them.

    Attributes:
        losses: Of the models themselves, on the report half.
        by_layer: Which layers did it, where that was asked for.
        sets: The same on every set, by its name; only where there are several.
        geometry: Where the models lie; only where that is known.
        stability: When a training enters one basin, where the models are its checkpoints.
    """

    only_if_held: ClassVar[tuple[str, ...]] = ("by_layer", "sets", "geometry", "stability")

    losses: list[LossEntry]
    by_layer: LayerMeasurements | None = None
    sets: dict[str, BarrierSetEntry] = {}
    geometry: Geometry | None = None
    stability: StabilityEntry | None = None
