"""Examples as people read them: the text that a model is given, what counts of it in brackets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from mergekit_geo.tasks.token_losses import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from mergekit_geo.tasks.task import Example, Task

OPEN, CLOSE = "⟦", "⟧"
"""Marks around what counts."""


def shown(task: Task, example: Example) -> str:
    """An example as a task shows it; of a task that shows none, the names of its fields.

    Args:
        task: Made the example.
        example: Any.
    """
    own = getattr(task, "shown", None)
    return str(own(example)) if own else f"an example of {', '.join(example.fields)}"


def bracketed(what: object) -> str:
    """What counts, between brackets.

    >>> bracketed("yes")
    '⟦yes⟧'
    """
    return f"{OPEN}{what}{CLOSE}"


def marked(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], labels: Sequence[int]) -> str:
    """The text of token ids with brackets around the tokens that count.

    Args:
        tokenizer: That made the ids.
        ids: Of the tokens that a model is given.
        labels: The token that is to be predicted at each place; -100 where none counts.
    """
    told = [i if label == IGNORED else label for i, label in zip(ids, labels, strict=True)]
    counted = [label != IGNORED for label in labels]
    runs = [(counts, len(list(run))) for counts, run in groupby(counted)]
    ends = [0]
    for _, length in runs:
        ends.append(ends[-1] + length)
    texts = [decoded(tokenizer, told[:end]) for end in ends]
    pieces = [text[len(before) :] for before, text in pairwise(texts)]
    return "".join(
        bracketed(piece) if counts else piece
        for (counts, _), piece in zip(runs, pieces, strict=True)
    )


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], *, special: bool = True) -> str:
    """The text of token ids, as it was before it was cut.

    Args:
        tokenizer: That made the ids.
        ids: Any number.
        special: Whether special tokens are included.
    """
    options = {"skip_special_tokens": not special, "clean_up_tokenization_spaces": False}
    return str(tokenizer.decode(list(ids), **options))
