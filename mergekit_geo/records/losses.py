"""How a report tells losses: of models, and along paths between them."""

from __future__ import annotations

from typing import Literal

from mergekit_geo.records.record import Part


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
        metric_low: Lower end of the metric's 95 % interval over documents; null with too few.
        metric_high: Upper end.
    """

    model: str
    role: Literal["parent", "output", "reference"]
    loss: float
    low: float | None
    high: float | None
    perplexity: float | None = None
    metric: float | None = None
    macro_f1: float | None = None
    metric_low: float | None = None
    metric_high: float | None = None


class EstimateEntry(Part):
    """A number and its 95 % interval over documents; null ends with too few of them.

    The value is null where the loss is not a number.

    Attributes:
        value: The number.
        low: Lower end.
        high: Upper end.
        detectable: The size that would be told from zero four times in five: 2.8 standard errors
            (two-sided 5 %, power 80 %), more with few documents.
    """

    value: float | None
    low: float | None
    high: float | None
    detectable: float | None = None


class DifferenceEntry(Part):
    """Loss of the output minus that of a parent, on the same examples.

    Attributes:
        model: The parent.
        value: Difference in nats per token; negative means that the output is better.
        low: Lower end of the paired 95 % interval; null with too few documents.
        high: Upper end.
        significant: Whether the interval leaves zero out.
        detectable: The size that would be told from zero, as in every estimate.
        metric: The same of the task's metric; positive means that the output is better.
        macro_f1: The same of macro-F1, for classifiers.
    """

    model: str
    value: float
    low: float | None
    high: float | None
    significant: bool | None
    detectable: float | None = None
    metric: EstimateEntry | None = None
    macro_f1: EstimateEntry | None = None


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
        dip: Lowest loss above the chord.
        t_dip: Where that is, found on the selection half.
        threshold: Barriers below this are negligible: 2 % of the mean loss of the ends.
        documents: How many documents all this is of: those of the report half.
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
    dip: EstimateEntry | None = None
    t_dip: float | None = None
    threshold: float | None = None
    documents: int | None = None
