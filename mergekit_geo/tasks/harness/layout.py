"""A question's answers as token ids, and a batch of questions as tensors.

Answers that end in one token after the same tokens, such as the letters A to D, share a row: the
model reads it once.

Legend: n rows of length l, c answers, t tokens of answers, p places of logits, g right answers,
b questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mergekit_geo.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from mergekit_geo.tasks.harness.encoder import Pair
    from mergekit_geo.tasks.task import Example

    Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Question:
    """Token ids of a question and its answers.

    Attributes:
        rows: What a model reads; of a model with an encoder, what that reads.
        row: (c,) of each answer.
        start: (c,) place in the row whose logits predict an answer's first token.
        answers: Ids of each answer.
        cut: Whether tokens at the beginning were left out.
    """

    rows: list[tuple[int, ...]]
    row: list[int]
    start: list[int]
    answers: list[list[int]]
    cut: bool = False

    @classmethod
    def of(cls, pairs: Sequence[Pair], most: int, *, is_seq2seq: bool) -> Question:
        """Lay out contexts and answers as lm-eval's wrapper does.

        Args:
            pairs: Ids of contexts and answers.
            most: Tokens that the model reads at most; what is before them is left out.
            is_seq2seq: Whether contexts go to an encoder.

        Raises:
            DataError: An answer has no tokens, or more than the model reads.
        """
        answers = [answer for _, answer in pairs]
        longest = max(map(len, answers))
        if not min(map(len, answers)) or longest > most:
            raise DataError(
                f"an answer has {longest if longest > most else 0} tokens; expected 1 to {most}"
            )
        if is_seq2seq:
            rows = [tuple(context[-most:]) for context, _ in pairs]
            cut = any(len(context) > most for context, _ in pairs)
            return cls(rows, list(range(len(rows))), [0] * len(rows), answers, cut)
        known: dict[tuple[int, ...], int] = {}
        row, start, cut = [], [], False
        for context, answer in pairs:
            whole = [*context, *answer]
            read = tuple(whole[-(most + 1) :][:-1])
            cut |= len(whole) > most + 1
            row.append(known.setdefault(read, len(known)))
            start.append(len(read) - len(answer))
        return cls(list(known), row, start, answers, cut)

    @property
    def fields(self) -> dict[str, Ids]:
        """The layout as flat arrays."""
        return {
            "rows": _flat(self.rows), "row_lengths": _lengths(self.rows),
            "row": np.array(self.row, np.int32), "start": np.array(self.start, np.int32),
            "answers": _flat(self.answers), "answer_lengths": _lengths(self.answers),
        }  # fmt: skip

    @property
    def size(self) -> int:
        """Tokens that a model reads."""
        return sum(map(len, self.rows))


def _flat(parts: Sequence[Sequence[int]]) -> Ids:
    return np.array([token for part in parts for token in part], np.int32)


def _lengths(parts: Sequence[Sequence[int]]) -> Ids:
    return np.array([len(part) for part in parts], np.int32)


def tensors(examples: Sequence[Example]) -> dict[str, Tensor]:
    """A batch of questions.

    Returns:
        `input_ids` and `attention_mask` (n, l); `row`, `place`, `token`, `answer` (t,) of each
        token of an answer; `owner` (c,) of each answer; `right` (b, g), -1 beyond a question's;
        `weight` and `document` (b,).
    """
    fields = [example.fields for example in examples]
    lengths = np.concatenate([one["row_lengths"] for one in fields])
    counts = np.array([len(one["row"]) for one in fields])
    owner = np.repeat(np.arange(len(fields)), counts)
    rows_before = np.cumsum([0, *(len(one["row_lengths"]) for one in fields)])[owner]
    row = np.concatenate([one["row"] for one in fields]) + rows_before
    start = np.concatenate([one["start"] for one in fields])
    sizes = np.concatenate([one["answer_lengths"] for one in fields])
    answer = np.repeat(np.arange(len(owner)), sizes)
    within = np.arange(len(answer)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = np.concatenate([one["rows"] for one in fields])
    found = {
        "input_ids": ids, "attention_mask": mask.astype(np.int64), "row": row[answer],
        "place": start[answer] + within,
        "token": np.concatenate([one["answers"] for one in fields]), "answer": answer,
        "owner": owner, "right": _right(fields, np.cumsum(counts) - counts),
        "weight": np.array([example.weight for example in examples], np.float32),
        "document": np.array([example.document for example in examples]),
    }  # fmt: skip
    return {
        name: torch.from_numpy(array if array.dtype == np.float32 else array.astype(np.int64))
        for name, array in found.items()
    }


def _right(fields: Sequence[Mapping[str, Any]], before: NDArray[np.int64]) -> NDArray[np.int64]:
    most = max(len(one["right"]) for one in fields)
    found = np.full((len(fields), most), -1)
    for number, one in enumerate(fields):
        found[number, : len(one["right"])] = one["right"] + before[number]
    return found


def only_right(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The batch with the right answers alone, which are all that the loss is made of."""
    right = batch["right"]
    kept = torch.zeros_like(batch["owner"], dtype=torch.bool)
    kept[right[right >= 0]] = True
    tokens = kept[batch["answer"]]
    rows, row = torch.unique(batch["row"][tokens], return_inverse=True)
    number = kept.cumsum(0) - 1
    return {
        **batch,
        **{name: batch[name][rows] for name in ("input_ids", "attention_mask")},
        **{name: batch[name][tokens] for name in ("place", "token")},
        "row": row, "answer": number[batch["answer"][tokens]], "owner": batch["owner"][kept],
        "right": torch.where(right >= 0, number[right.clamp(min=0)], right),
    }  # fmt: skip
