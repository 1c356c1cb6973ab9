"""Pairs of a chosen and a rejected answer: the loss of the first, and how often it is preferred.

Legend: r windows, l positions, b pairs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mergekit_geo.data.rows import Rows, is_empty, some
from mergekit_geo.data.shape import Shape
from mergekit_geo.tasks.causal_lm import CausalLM
from mergekit_geo.tasks.task import BatchLosses, Example, Task
from mergekit_geo.tasks.token_losses import IGNORED

if TYPE_CHECKING:
    from torch.nn import Module

    from mergekit_geo.tasks.task import Batch
    from mergekit_geo.tasks.texts import Texts

    Windows = Mapping[int, list[Example]]


def with_preferences(task: Task, rows: Rows) -> Task:
    """The task itself, or one that compares answers, where rows have chosen and rejected ones.

    Args:
        task: Of the models.
        rows: The data.

    Raises:
        DataError: A column that was named is missing.
    """
    if not isinstance(task, CausalLM) or not task.only_answers:
        return task
    rejected = Shape.of(rows, task.data).rejected
    if rejected is None or all(is_empty(cells.get(rejected)) for cells in rows.cells):
        return task
    return Preference(task)


class Preference:
    """Loss of every token of the chosen answer, and whether it is likelier than the rejected one.

    An answer is likelier where its loss per token is lower, so that a short one has no advantage.
    By how much is the pair's margin, in nats per token. A pair is one example, whatever the number
    of its windows; it counts once in score and margin, and as many tokens as its chosen answer has
    in the loss. Where gradients are on, rejected answers are left out: no score is needed there.

    Args:
        task: Of the answers by themselves.
    """

    unit, metric = "token", "preference accuracy"

    def __init__(self, task: CausalLM) -> None:
        self.task, self.name = task, task.name

    def columns(self, rows: Rows) -> Sequence[str]:
        """Columns that must not be empty."""
        return self.task.columns(rows)

    def examples(self, rows: Rows) -> list[Example]:
        """One example a row; without a rejected answer it has no score.

        Raises:
            DataError: As for the answers by themselves.
        """
        chosen, rejected = _by_document(self.task.examples(rows)), self._rejected(rows)
        return [_pair(number, found, rejected.get(number, [])) for number, found in chosen.items()]

    def _rejected(self, rows: Rows) -> Windows:
        shape = Shape.of(rows, self.task.data)
        assert shape.rejected is not None, "no answers to compare"
        kept = [i for i, cells in enumerate(rows.cells) if not is_empty(cells[shape.rejected])]
        swapped = replace(shape, answer=shape.rejected, rejected=shape.answer)
        documents = self.task.documents(some(rows, kept), swapped)
        told = [place for place, one in enumerate(documents) if one.counted(only_assistant=True)]
        found = self.task.windows([documents[place] for place in told])
        return {kept[told[place]]: windows for place, windows in _by_document(found).items()}

    def texts(self, rows: Rows) -> Texts:
        """The texts of every row with its chosen answer."""
        return self.task.texts(rows)

    def shape(self, rows: Rows) -> str:
        """What the columns hold, in words."""
        return self.task.shape(rows)

    def shown(self, example: Example) -> str:
        """Both answers, of each the first window."""
        windows, chosen = list(_split(example.fields)), example.fields["chosen"]
        both = zip(("chosen", "rejected"), (windows[:chosen], windows[chosen:]), strict=True)
        return "\n".join(f"{name}: {self.task.shown(own[0])}" for name, own in both if own)

    def longest_of(self, example: Example) -> int:
        """Tokens of the longest window of both answers."""
        return int(max(example.fields["lengths"]))

    def batch_size(self, examples: Sequence[Example]) -> int:
        """Number of pairs whose logits stay small."""
        return self.task.batch_size(examples)

    def batch(self, examples: Sequence[Example]) -> Batch:
        """Windows of all pairs, padded (r, l), the pair of each and which are of chosen ones."""
        windows = [list(_split(example.fields)) for example in examples]
        chosen = [[i < one.fields["chosen"] for i in range(len(own))]
                  for one, own in zip(examples, windows, strict=True)]  # fmt: skip
        owner = [[number] * len(own) for number, own in enumerate(windows)]
        return {
            **self.task.batch(list(chain.from_iterable(windows))),
            "owner": torch.tensor(list(chain.from_iterable(owner))),
            "chosen": torch.tensor(list(chain.from_iterable(chosen))),
        }

    def losses(self, model: Module, batch: Batch) -> BatchLosses:
        """Mean negative log-likelihood of each chosen answer's tokens, in nats, and the score."""
        kept = batch["chosen"] if torch.is_grad_enabled() else torch.ones_like(batch["chosen"])
        batch = {name: tensor[kept] for name, tensor in batch.items()}
        loss_r, count_r = self.task.losses(model, batch).loss, _counts(batch["labels"])
        means = [_means(loss_r, count_r * side, batch["owner"])
                 for side in (batch["chosen"], ~batch["chosen"])]  # fmt: skip
        (chosen_b, _), (rejected_b, scored_b) = means
        if torch.is_grad_enabled():
            return BatchLosses(chosen_b)
        margin_b = (rejected_b - chosen_b) * scored_b
        score_b = (margin_b > 0).float()
        return BatchLosses(chosen_b, score_b, score_weight=scored_b.float(), margin=margin_b)


def _by_document(examples: Sequence[Example]) -> Windows:
    found: dict[int, list[Example]] = defaultdict(list)
    for example in examples:
        found[example.document].append(example)
    return found


def _pair(document: int, chosen: Sequence[Example], rejected: Sequence[Example]) -> Example:
    """Both answers' windows as one example: their ids and labels one after another."""
    both = [*chosen, *rejected]
    fields: dict[str, Any] = {
        name: list(chain.from_iterable(one.fields[name] for one in both))
        for name in ("input_ids", "labels")
    }
    fields |= {"lengths": [one.size for one in both], "chosen": len(chosen)}
    weight = sum(one.weight for one in chosen)
    return Example(document, sum(fields["lengths"]), weight, fields)


def _split(fields: Mapping[str, Any]) -> list[Example]:
    """The windows that `_pair` joined, as examples of a causal language model."""
    ends = list(accumulate(fields["lengths"]))
    places = [slice(end - size, end) for end, size in zip(ends, fields["lengths"], strict=True)]
    found = []
    for place, size in zip(places, fields["lengths"], strict=True):
        own = {name: fields[name][place] for name in ("input_ids", "labels")}
        found.append(Example(0, size, 0, {**own, "attention_mask": [1] * size}))
    return found


def _counts(labels_rl: Tensor) -> Tensor:
    """(r,) number of tokens that are predicted and count."""
    return (labels_rl[:, 1:] != IGNORED).sum(1)


def _means(loss_r: Tensor, count_r: Tensor, owner_r: Tensor) -> tuple[Tensor, Tensor]:
    """(b,) mean over the tokens of each pair's windows, and whether it has any."""
    pairs = int(owner_r.max()) + 1
    total_b = loss_r.new_zeros(pairs).index_add(0, owner_r, loss_r * count_r)
    count_b = loss_r.new_zeros(pairs).index_add(0, owner_r, count_r.to(loss_r))
    return total_b / count_b.clamp(min=1), count_b > 0
