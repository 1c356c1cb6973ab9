"""Questions whose answers are generated: `generate_until`, such as gsm8k."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from lm_eval.api.instance import Instance

from mergekit_geo.data.rows import Rows
from mergekit_geo.errors import DataError
from mergekit_geo.tasks.harness.example import laid_out, note_cut
from mergekit_geo.tasks.harness.likelihood import answer_losses
from mergekit_geo.tasks.harness.questions import Questions
from mergekit_geo.tasks.harness.quiet import quiet, seeded
from mergekit_geo.tasks.harness.right import reference_answer
from mergekit_geo.tasks.shown import bracketed
from mergekit_geo.tasks.task import BatchLosses, Example

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from mergekit_geo.tasks.harness.asked import Asked


class Generations(Questions):
    """Loss and score of questions whose answers are generated.

    The score is the task's metric of what lm-eval's own wrapper generates. The loss is minus the
    log-likelihood of the reference answer after the question, in nats; where a task has none for
    some question, it is 1 minus the score, and has no gradient.
    """

    @cached_property
    def references(self) -> list[str] | None:
        """The reference answer of each document; None where one has none."""
        found = [reference_answer(one.task, one.doc) for one in self.asked]
        known = [text for text in found if text is not None]
        return known if len(known) == len(found) else None

    def answer_of(self, example: Example) -> str:
        """The reference answer of a document; empty where there is none."""
        return "" if self.references is None else self.references[example.document].strip()

    def cost_of(self, examples: Sequence[Example]) -> str:
        """What a measurement of some examples takes, in words."""
        most = [self._longest(self.asked[one.document]) for one in examples]
        return (
            f"each measurement generates answers to {len(most)} documents, of {max(most)} tokens "
            f"at most ({sum(most):,} in all); --limit and --max-examples take fewer"
        )

    def examples(self, rows: Rows) -> list[Example]:
        """One example a document.

        Raises:
            DataError: There is no metric of an answer, or no room for one.
        """
        if not self.metric:
            raise DataError("the task has no metric of one answer", where=rows.source)
        for one in self.asked:
            self._check_room(one)
        found = [self._prompted(number, one) for number, one in enumerate(self.asked)]
        note_cut(rows, found, self.encoder.max_length)
        if self.references is None:
            rows.notes.append("the loss is 1 - score: the task has no reference answers")
        return found

    def shown(self, example: Example) -> str:
        """The question, and the reference answer in brackets, where there is one."""
        question = str(self.asked[example.document].requests[0].args[0])
        known = self.references
        return question if known is None else f"{question}{bracketed(known[example.document])}"

    def losses(self, model: Module, batch: dict[str, Tensor]) -> BatchLosses:
        """Loss of each reference answer; and, without gradients, the score of what is generated.

        Raises:
            DataError: A gradient is asked for, and there are no reference answers.
        """
        seq2seq = self.encoder.is_seq2seq
        if torch.is_grad_enabled():
            if self.references is None:
                raise DataError("a score has no gradient, and the task has no reference answers")
            return BatchLosses(answer_losses(model, batch, is_seq2seq=seq2seq))
        found = self._generated(model, batch["document"].tolist())
        score = torch.tensor(found, dtype=torch.float64)
        if self.references is None:
            return BatchLosses(1 - score, score)
        return BatchLosses(answer_losses(model, batch, is_seq2seq=seq2seq), score)

    def _generated(self, model: Module, documents: Sequence[int]) -> list[float]:
        """Scores of what lm-eval's wrapper generates around the model."""
        asked = [self.asked[document] for document in documents]
        requests = [one.requests[0] for one in asked for _ in range(one.requests[0].repeats)]
        with quiet(), seeded():
            texts = self.encoder.on(model, len(asked)).generate_until(requests, disable_tqdm=True)
        ends = np.cumsum([one.requests[0].repeats for one in asked])
        starts = [0, *ends]
        return [
            one.score([texts[start:end]])
            for one, start, end in zip(asked, starts, ends, strict=False)
        ]

    def _prompted(self, number: int, one: Asked) -> Example:
        known = self.references
        text = PLACEHOLDER if known is None else known[number]
        request = Instance("loglikelihood", one.doc, (one.requests[0].args[0], text), 0)
        return laid_out(number, one, self.encoder.pairs([request]), [0], self.encoder)

    def _check_room(self, one: Asked) -> None:
        room, longest = self.encoder.max_length, self._longest(one)
        if longest >= room and not self.encoder.is_seq2seq:
            raise DataError(
                f"answers have up to {longest} tokens, and the models read {room}",
                where=one.name,
                remedy="max_gen_toks among the generation_kwargs of the task's file",
            )

    def _longest(self, one: Asked) -> int:
        return int(one.requests[0].args[1].get("max_gen_toks", self.encoder.max_gen_toks))


PLACEHOLDER = "?"
"""Stands for an answer where there is none, so that batches have one form."""
