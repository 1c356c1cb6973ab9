"""Texts whose every token counts: `loglikelihood_rolling`, such as wikitext."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mergekit_geo.data.rows import Rows
from mergekit_geo.tasks.harness.asked import Asked, repository_of
from mergekit_geo.tasks.harness.example import batch_size, laid_out, longest_of
from mergekit_geo.tasks.harness.layout import tensors
from mergekit_geo.tasks.harness.likelihood import answer_losses
from mergekit_geo.tasks.harness.questions import NAME
from mergekit_geo.tasks.harness.right import count_bytes
from mergekit_geo.tasks.per_byte import BYTE
from mergekit_geo.tasks.shown import bracketed
from mergekit_geo.tasks.task import BatchLosses, Example

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from mergekit_geo.tasks.harness.encoder import Encoder


class RollingTexts:
    """Loss of texts in nats per byte: lm-eval's bits per byte times ln 2.

    Windows are as long as the model reads, and each token counts once. They share the bytes of
    their text in proportion to their tokens. There is no score.

    Args:
        asked: All documents, with their requests.
        encoder: Cuts texts as lm-eval does.
        vocabulary: Size of the logits.
    """

    name, unit, metric = NAME, BYTE, ""

    def __init__(self, asked: Sequence[Asked], encoder: Encoder, vocabulary: int) -> None:
        self.asked, self.encoder, self.vocabulary = asked, encoder, vocabulary
        self.repository = repository_of(asked)

    def columns(self, rows: Rows) -> Sequence[str]:
        """None: tasks of lm-eval name their own."""
        return ()

    def texts(self, rows: Rows) -> list[list[str]]:
        """The text of each document."""
        return [list(one.requests[0].args) for one in self.asked]

    def examples(self, rows: Rows) -> list[Example]:
        """One example a window."""
        return [part for number, one in enumerate(self.asked) for part in self._parts(number, one)]

    def longest_of(self, example: Example) -> int:
        """Tokens of the longest row that a model reads."""
        return longest_of(example)

    def shown(self, example: Example) -> str:
        """The whole text, all of which counts."""
        return bracketed(self.asked[example.document].requests[0].args[0])

    def batch_size(self, examples: Sequence[Example]) -> int:
        """Number of windows whose tokens and logits are few."""
        return batch_size(examples, self.vocabulary)

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Rows and what counts of them, as `layout.tensors` has it."""
        return tensors(examples)

    def losses(self, model: Module, batch: dict[str, Tensor]) -> BatchLosses:
        """Loss of each window's bytes, in nats."""
        return BatchLosses(answer_losses(model, batch, is_seq2seq=self.encoder.is_seq2seq))

    def _parts(self, number: int, one: Asked) -> list[Example]:
        windows = self.encoder.windows(one.requests[0])
        tokens = sum(len(counted) for _, counted in windows)
        share = count_bytes(one.task, one.doc) / max(tokens, 1)
        return [
            laid_out(number, one, [pair], [0], self.encoder, share * len(pair[1]))
            for pair in windows
        ]
