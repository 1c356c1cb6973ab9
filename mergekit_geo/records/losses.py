"""The loss of models, differences of losses, and the data that they are measured on."""

from __future__ import annotations

from typing import Literal

from mergekit_geo.records.record import Record


class LossEntry(Record):
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


class EstimateEntry(Record):
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


class DifferenceEntry(Record):
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


class DataEntry(Record):
    """What loss was measured on.

    Attributes:
        source: File or built-in text.
        digest: SHA-256 of the documents.
        documents: How many documents the examples are from.
        examples: How many examples were measured.
        available: How many there were.
        tokens: How many tokens (or labels, or examples) were predicted, per model.
        seq_len: Tokens in a full window.
        seed: Of the sample, the halves and the intervals.
        task: Such as `causal-lm`.
        unit: What is counted: `token`, `label` or `example`.
        metric: What the task's metric is called.
        half: `report` where something was chosen on the other half.
        notes: What was guessed about the data.
        repository: The dataset's id on the Hub; null for what is not there.
    """

    source: str
    digest: str
    documents: int
    examples: int
    available: int
    tokens: int
    seq_len: int
    seed: int
    task: str = ""
    unit: str = "token"
    metric: str = ""
    half: Literal["", "report"] = ""
    notes: list[str] = []
    repository: str | None = None
