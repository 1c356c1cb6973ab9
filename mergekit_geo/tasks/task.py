"""What a task is: from rows of data to examples, and from a batch of them to losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from mergekit_geo.data.rows import Rows

    Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Example:
    """One input of a model.

    Attributes:
        document: Index of the row it is from; where rows are measured against one another, of the
            first of them.
        size: Length in tokens, by which batches are bucketed; 1 where all are alike.
        weight: How many tokens (or examples) its loss is the mean of.
        fields: What the task's `batch` makes tensors of.
        member: Index of the row it is from, where that is not its document.
    """

    document: int
    size: int
    weight: float
    fields: Mapping[str, Any]
    member: int | None = None

    @property
    def row(self) -> int:
        """Index of the row it is from."""
        return self.document if self.member is None else self.member


@dataclass(frozen=True)
class BatchLosses:
    """Results for a batch of b examples, differentiable where gradients are on.

    Attributes:
        loss: (b,) mean loss of each example's tokens, float32.
        score: (b,) share of right answers, None where the task has none.
        owner: (m,) index in the batch of each answer, None without answers.
        target: (m,) true class.
        predicted: (m,) class said.
        score_weight: (b,) what each score counts; None where as much as the loss.
        margin: (b,) loss per token of the rejected answer minus that of the chosen one.
        rated: (b,) number in the data, None where the metric is no rank correlation.
        rating: (b,) number said.
    """

    loss: Tensor
    score: Tensor | None = None
    owner: Tensor | None = None
    target: Tensor | None = None
    predicted: Tensor | None = None
    score_weight: Tensor | None = None
    margin: Tensor | None = None
    rated: Tensor | None = None
    rating: Tensor | None = None


def longest(task: Task, examples: Sequence[Example]) -> int:
    """Most tokens that a model reads at once; some tasks have several inputs an example."""
    own = getattr(task, "longest_of", None)
    return max(example.size if own is None else own(example) for example in examples)


class Task(Protocol):
    """How loss is measured for one kind of model."""

    @property
    def name(self) -> str:
        """The task's name for `--task`, such as `causal-lm`."""

    @property
    def unit(self) -> str:
        """Unit of the weights: `token`, `byte`, `label` or `example`."""

    @property
    def metric(self) -> str:
        """Name of the score, such as `accuracy`; empty where there is none."""

    def columns(self, rows: Rows) -> Sequence[str]:
        """Columns that a row needs to be an example.

        Raises:
            DataError: A column is missing.
        """

    def examples(self, rows: Rows) -> list[Example]:
        """Examples of all rows, in order.

        Raises:
            DataError: A column is missing, a label out of range, or the text too short.
        """

    def batch_size(self, examples: Sequence[Example]) -> int:
        """Default batch size."""

    def batch(self, examples: Sequence[Example]) -> Batch:
        """Tensors on the CPU, padded to the longest."""

    def losses(self, model: Module, batch: Batch) -> BatchLosses:
        """Losses of a batch that is on the model's device."""
