"""Questions whose answers have likelihoods: multiple choice, or one right continuation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from mergekit_geo.data.rows import Rows
from mergekit_geo.errors import DataError
from mergekit_geo.tasks.harness.asked import Asked, repository_of
from mergekit_geo.tasks.harness.example import batch_size, laid_out, longest_of, note_cut
from mergekit_geo.tasks.harness.layout import tensors
from mergekit_geo.tasks.harness.likelihood import answer_losses, log_likelihoods, right_losses
from mergekit_geo.tasks.harness.right import right_choices
from mergekit_geo.tasks.shown import bracketed
from mergekit_geo.tasks.task import BatchLosses, Example

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from mergekit_geo.tasks.harness.encoder import Encoder

NAME = "lm-eval"


class Questions:
    """Loss and score of questions.

    The loss is minus the log-likelihood of the right answer after the question, in nats; of several
    right ones, of any of them. The score is the task's metric, such as accuracy: 1 where the right
    answer is likelier than the others. Both are means over questions.

    Args:
        asked: All documents, with their requests.
        encoder: Cuts texts as lm-eval does.
        vocabulary: Size of the logits.
    """

    name, unit = NAME, "example"

    def __init__(self, asked: Sequence[Asked], encoder: Encoder, vocabulary: int) -> None:
        self.asked, self.encoder, self.vocabulary = asked, encoder, vocabulary
        self.metric, self.repository = asked[0].metric, repository_of(asked)

    def columns(self, rows: Rows) -> Sequence[str]:
        """None: tasks of lm-eval name their own."""
        return ()

    def texts(self, rows: Rows) -> list[list[str]]:
        """The texts of each document that the tokenizer is given."""
        return [
            [part for request in one.requests for part in request.args if isinstance(part, str)]
            for one in self.asked
        ]

    def answer_of(self, example: Example) -> str:
        """The right answer of a question, the first of several."""
        request = self.asked[example.document].requests[int(example.fields["right"][0])]
        return str(request.args[-1]).strip()

    def examples(self, rows: Rows) -> list[Example]:
        """One example a question that has a right answer.

        Raises:
            DataError: None has one, or an answer is too long for the model, or empty.
        """
        found = [
            example
            for number, one in enumerate(self.asked)
            if (example := self._example(number, one)) is not None
        ]
        if not found:
            raise DataError("no question has a right answer", where=rows.source)
        note_cut(rows, found, self.encoder.max_length)
        return found

    def longest_of(self, example: Example) -> int:
        """Tokens of the longest row that a model reads."""
        return longest_of(example)

    def shown(self, example: Example) -> str:
        """The question, and each answer on a line of its own, right ones in brackets."""
        right = set(example.fields["right"].tolist())
        asked = [request.args for request in self.asked[example.document].requests]
        answers = [bracketed(args[1]) if i in right else args[1] for i, args in enumerate(asked)]
        if len({args[0] for args in asked}) == 1:
            return "\n".join([asked[0][0], *answers])
        return "\n".join(args[0] + answer for args, answer in zip(asked, answers, strict=True))

    def batch_size(self, examples: Sequence[Example]) -> int:
        """Number of questions whose tokens and logits are few."""
        return batch_size(examples, self.vocabulary)

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Rows and answers, as `layout.tensors` has them."""
        return tensors(examples)

    def losses(self, model: Module, batch: dict[str, Tensor]) -> BatchLosses:
        """Loss and score of each question; with gradients the loss alone, of right answers."""
        if torch.is_grad_enabled():
            return BatchLosses(answer_losses(model, batch, is_seq2seq=self.encoder.is_seq2seq))
        known, greedy = log_likelihoods(model, batch, is_seq2seq=self.encoder.is_seq2seq)
        loss = right_losses(known, batch)
        if not self.metric:
            return BatchLosses(loss)
        scores = self._scores(known, greedy, batch)
        return BatchLosses(loss, torch.tensor(scores, dtype=torch.float64))

    def _scores(self, known: Tensor, greedy: Tensor, batch: dict[str, Tensor]) -> list[float]:
        found = list(zip(known.tolist(), greedy.tolist(), strict=True))
        ends = np.cumsum(np.bincount(batch["owner"].cpu().numpy()))
        parts = [found[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        documents = batch["document"].tolist()
        return [
            self.asked[document].score([[one] for one in part])
            for document, part in zip(documents, parts, strict=True)
        ]

    def _example(self, number: int, one: Asked) -> Example | None:
        right = right_choices(one.task, one.doc)
        pairs = self.encoder.pairs(one.requests)
        return laid_out(number, one, pairs, right, self.encoder) if right else None
