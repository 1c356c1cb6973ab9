"""The loss of models, differences of losses, and the data that they are measured on."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator

from mergekit_geo.records import Record, Sparse


def finite(value: float | None) -> float | None:
    """A finite number as it is, and None for any other: JSON has no NaN and no infinity."""
    return float(value) if value is not None and math.isfinite(value) else None


Finite = Annotated[float | None, BeforeValidator(finite)]
"""A number of a report; None where it is not finite."""


class Estimate(Record):
    """A number and how far it can be trusted.

    Attributes:
        value: The estimate; null where it is not a number.
        low: Lower end of its 95 % interval over documents; null with too few of them.
        high: Upper end.
        detectable: The smallest size of such a quantity that would be told from zero four times in
            five (two-sided 5 %, power 80 %): 2.8 standard errors, more with few documents.
    """

    value: Finite
    low: Finite
    high: Finite
    detectable: Finite = None

    @property
    def number(self) -> float:
        """The value as a float, NaN in place of null."""
        return math.nan if self.value is None else self.value

    @property
    def is_significant(self) -> bool | None:
        """Whether the interval excludes zero; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return self.low > 0 or self.high < 0


class LossEntry(Sparse):
    """Loss of one model.

    Attributes:
        model: Its name.
        role: Whether it went in, came out, or stands beside for comparison.
        loss: Mean per token, byte or example (`data.unit`), in nats; squared error for regression.
        low: Lower end of the 95 % interval over documents; null with too few.
        high: Upper end.
        perplexity: exp(loss), for language models whose loss is per token.
        metric: The task's metric, such as accuracy; null where it has none.
        macro_f1: For classifiers.
        metric_low: Lower end of the metric's 95 % interval over documents; null with too few.
        metric_high: Upper end.
        margin: Mean log-probability per token of chosen answers minus that of rejected ones, in
            nats; there where answers are compared.
    """

    only_if_held: ClassVar[tuple[str, ...]] = ("margin",)

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
    margin: Estimate | None = None


class DifferenceEntry(Record):
    """Loss of the output minus that of a parent, on the same examples.

    Attributes:
        model: The parent.
        value: Difference, in what the losses are in; negative means that the output is better.
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
    metric: Estimate | None = None
    macro_f1: Estimate | None = None


class SignTest(Record):
    """Number of documents on which one model's loss is above another's, and below.

    Attributes:
        above: Documents on which the first model's loss is the larger one.
        below: Documents on which it is the smaller one.
        ties: Documents on which both have the same loss; they say nothing.
        p_value: Two-sided, of the exact binomial test that both are equally likely; 1 where all
            documents are ties.
    """

    above: int
    below: int
    ties: int
    p_value: float

    @property
    def is_significant(self) -> bool:
        """Whether the share of documents above differs from one half at the 5 % level."""
        return self.p_value < 0.05  # noqa: PLR2004


class DataEntry(Record):
    """What loss was measured on.

    Attributes:
        source: File or built-in text.
        digest: SHA-256 of the documents.
        documents: How many documents the examples are from.
        examples: How many examples were measured.
        available: How many there were.
        tokens: How many tokens (or labels, or examples) were predicted, per model; bytes of their
            text, where that is the unit.
        seq_len: Tokens in a full window.
        seed: Of the sample, the halves and the intervals.
        task: Such as `causal-lm`.
        unit: What is counted: `token`, `label` or `example`; `byte` of text where tokenizers
            differ.
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


class SetEntry(Record):
    """What was found on one evaluation set.

    Attributes:
        data: What it is.
        weight: What it counts beside others.
        losses: Of the models there.
    """

    data: DataEntry
    weight: float = 1.0
    losses: list[LossEntry]
