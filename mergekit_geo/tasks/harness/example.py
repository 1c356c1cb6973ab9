"""Documents of lm-evaluation-harness as examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mergekit_geo.errors import DataError
from mergekit_geo.tasks.causal_lm import LOGIT_ELEMENTS, MOST_AT_ONCE
from mergekit_geo.tasks.harness.layout import Question
from mergekit_geo.tasks.task import Example

if TYPE_CHECKING:
    from mergekit_geo.data.rows import Rows
    from mergekit_geo.tasks.harness.asked import Asked
    from mergekit_geo.tasks.harness.encoder import Encoder, Pair

MOST_TOKENS = 1 << 14
"""Tokens of a batch by default."""


def laid_out(
    number: int,
    one: Asked,
    pairs: Sequence[Pair],
    right: Sequence[int],
    encoder: Encoder,
    weight: float = 1.0,
) -> Example:
    """An example of contexts and answers.

    Args:
        number: Of the document.
        one: The document.
        pairs: Ids of each context and answer.
        right: Numbers of the right answers.
        encoder: Of the model.
        weight: What the example counts.

    Raises:
        DataError: An answer is empty, or longer than what the model reads.
    """
    try:
        laid = Question.of(pairs, encoder.max_length, is_seq2seq=encoder.is_seq2seq)
    except DataError as error:
        raise DataError(error.message, where=one.name) from error
    fields = {"right": np.array(right), "cut": laid.cut, "made_by": one.made_by}
    return Example(number, laid.size, weight, {**laid.fields, **fields})


def batch_size(examples: Sequence[Example], vocabulary: int) -> int:
    """Number of examples whose tokens are few, and whose logits are at the places of answers.

    Models that cannot leave the others out have eight times as many at most.
    """
    size = max(example.size for example in examples)
    places = max(int(example.fields["answer_lengths"].sum()) for example in examples)
    room = LOGIT_ELEMENTS // vocabulary
    return max(1, min(MOST_AT_ONCE, MOST_TOKENS // size, room // places, 8 * room // size))


def longest_of(example: Example) -> int:
    """Tokens of the longest row that a model reads."""
    return int(example.fields["row_lengths"].max())


def note_cut(rows: Rows, examples: Sequence[Example], most: int) -> None:
    """Note how many contexts are longer than the model reads."""
    if cut := sum(example.fields["cut"] for example in examples):
        verb = "context is" if cut == 1 else "contexts are"
        rows.notes.append(f"{cut} {verb} cut to the last {most} tokens, as lm-eval does")
