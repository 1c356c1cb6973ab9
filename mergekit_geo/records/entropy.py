"""Coefficients that were found by the entropy of predictions (AdaMerging: Yang 2024)."""

from __future__ import annotations

from mergekit_geo.records import Record


class EntropySource(Record):
    """Unlabelled data that predictions were made on.

    Attributes:
        source: File, or name of the evaluation set.
        half: `selection` where it is that half of an evaluation set; else empty.
        examples: How many.
        left_out: How many more there were that losses are reported on, whose inputs are the same.
        before: Mean entropy in nats where the search started.
        after: The same where it ended.
    """

    source: str
    half: str
    examples: int
    left_out: int
    before: float
    after: float


class TaskCoefficients(Record):
    """Coefficients of one model's task vector, over the tensors.

    Attributes:
        model: Its name.
        mean: Mean over the tensors.
        least: The smallest.
        largest: The largest.
        layers: Mean over the tensors of each layer, by its name.
    """

    model: str
    mean: float
    least: float
    largest: float
    layers: dict[str, float]


class EntropyEntry(Record):
    """A search for the coefficients that make predictions most certain.

    Attributes:
        sources: What predictions were made on.
        classes: How many classes there are: the entropy is at most the logarithm of that.
        granularity: What has a coefficient of its own: `tensor` or `model`.
        start: Every coefficient at first.
        steps: Of Adam.
        learning_rate: Of Adam.
        models: What was found for each.
    """

    sources: list[EntropySource]
    classes: int
    granularity: str
    start: float
    steps: int
    learning_rate: float
    models: list[TaskCoefficients]
