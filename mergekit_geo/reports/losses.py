"""How a report tells losses: of models, and along paths between them."""

from __future__ import annotations

from typing import Literal

from mergekit_geo.reports.part import Part


class LossEntry(Part):
    """Loss of one model.

    Attributes:
        model: Its name.
        role: Whether it went in, came out, or stands beside for comparison.
        loss: Mean per token (or example), in nats; squared error for regression.
        low: Lower end of the 95 % interval over documents; null with too few.
        high: Upper end.
        perplexity: exp(loss), for language models.
        metric: The task's metric, such as accuracy; null where it has none.
        macro_f1: For classifiers.
    """

    model: str
    role: Literal["parent", "output", "reference"]
    loss: float
    low: float | None
    high: float | None
    perplexity: float | None = None
    metric: float | None = None
    macro_f1: float | None = None


class DifferenceEntry(Part):
    """Loss of the output minus that of a parent, on the same examples.

    Attributes:
        model: The parent.
        value: Difference in nats per token; negative means that the output is better.
        low: Lower end of the paired 95 % interval; null with too few documents.
        high: Upper end.
        significant: Whether the interval leaves zero out.
    """

    model: str
    value: float
    low: float | None
    high: float | None
    significant: bool | None


class EstimateEntry(Part):
    """A number and its 95 % interval over documents; null ends with too few of them.

    The value is null where the loss is not a number.
    """

    value: float | None
    low: float | None
    high: float | None


class BarrierEntry(Part):
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
    """

    first: str
    second: str
    along: str
    t: list[float]
    loss: list[float | None]
    metric: list[float | None] | None
    barrier: EstimateEntry
    barrier_mean: EstimateEntry
    error_barrier: EstimateEntry | None
    t_max: float | None
    path_max: float | None
    path_mean: float | None
    significant: bool | None
    verdict: str
    taken: float | None = None
