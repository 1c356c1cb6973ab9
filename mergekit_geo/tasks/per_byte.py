"""Loss per byte of text, which can be compared where tokenizers cut the text differently."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import torch

from mergekit_geo.tasks.shown import shown
from mergekit_geo.tasks.task import BatchLosses, Example, Task
from mergekit_geo.tasks.texts import Texts, texts_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from mergekit_geo.data.rows import Rows
    from mergekit_geo.tasks.task import Batch

TOKEN, BYTE = "token", "byte"
SCALE = "scale"
"""The field of an example that turns nats per token into nats per byte."""


class CountsBytes(Task, Protocol):
    """A task whose loss is a sum over the tokens of a text."""

    def byte_counts(self, rows: Rows, examples: Sequence[Example]) -> list[int]:
        """UTF-8 bytes of the text whose tokens count, a number a row."""


class PerByte:
    """A task with its loss in nats per byte.

    A document's loss is the sum over its tokens that count, divided by the UTF-8 bytes of its text
    that counts: a number of the text, whatever the tokenizer. Windows share the bytes of their
    document in proportion to their tokens. There is no score: a share of right tokens depends on
    how a text is cut.

    Args:
        task: In nats per token.
    """

    unit, metric = BYTE, ""

    def __init__(self, task: CountsBytes) -> None:
        self.task, self.name = task, task.name

    def columns(self, rows: Rows) -> Sequence[str]:
        """Columns that a row needs to be an example."""
        return self.task.columns(rows)

    def examples(self, rows: Rows) -> list[Example]:
        """The task's examples, weighted by bytes."""
        found = self.task.examples(rows)
        counts = self.task.byte_counts(replace(rows, notes=[]), found)
        tokens: dict[int, float] = defaultdict(float)
        for example in found:
            tokens[example.document] += example.weight
        return [_scaled(one, tokens[one.document] / max(counts[one.document], 1)) for one in found]

    def texts(self, rows: Rows) -> Texts:
        """The texts of every row that the tokenizer is given."""
        return texts_of(self.task, rows)

    def shown(self, example: Example) -> str:
        """An example as the task shows it."""
        return shown(self.task, example)

    def batch_size(self, examples: Sequence[Example]) -> int:
        """Default batch size."""
        return self.task.batch_size(examples)

    def batch(self, examples: Sequence[Example]) -> Batch:
        """The task's tensors, and tokens per byte of each example's document, (b,) float32."""
        scale = torch.tensor([example.fields[SCALE] for example in examples])
        return {**self.task.batch(examples), SCALE: scale}

    def losses(self, model: Module, batch: dict[str, Tensor]) -> BatchLosses:
        """Mean loss of each example's bytes, in nats."""
        inputs = {name: tensor for name, tensor in batch.items() if name != SCALE}
        loss = self.task.losses(model, inputs).loss
        return BatchLosses(loss * batch[SCALE].to(loss))


def _scaled(example: Example, scale: float) -> Example:
    """An example that weighs its share of bytes.

    >>> _scaled(Example(0, 9, 8, {}), 0.25).weight
    32.0
    """
    fields = {**example.fields, SCALE: scale}
    return replace(example, weight=example.weight / scale, fields=fields)
