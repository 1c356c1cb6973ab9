"""From documents to token windows: the examples on which a language model's loss is measured."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergekit_geo.errors import DataError
from mergekit_geo.objectives.text import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Window:
    """Consecutive tokens of one document.

    Attributes:
        tokens: Their ids, with the begin-of-sequence token first where the tokenizer adds one.
        document: Index of the document.
    """

    tokens: tuple[int, ...]
    document: int

    @property
    def predicted(self) -> int:
        """How many tokens have a predecessor to be predicted from."""
        return len(self.tokens) - 1


def cut_windows(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerBase, length: int
) -> list[Window]:
    """Cut every document into windows that do not overlap; the last of each may be shorter.

    Args:
        documents: Texts.
        tokenizer: Of the models.
        length: Tokens in a window, begin-of-sequence included.

    Raises:
        DataError: No document has two tokens.
    """
    prefix = _prefix(tokenizer)
    step = length - len(prefix)
    windows = []
    for index, document in enumerate(documents):
        ids = tokenizer(document.text, add_special_tokens=False, verbose=False)["input_ids"]
        for start in range(0, len(ids), step):
            window = Window((*prefix, *ids[start : start + step]), index)
            if window.predicted > 0:
                windows.append(window)
    if not windows:
        raise DataError("the text is too short: no document has two tokens")
    return windows


def sample(windows: Sequence[Window], most: int | None, seed: int) -> list[Window]:
    """At most `most` windows, drawn without replacement, in their order.

    Example:
        >>> sample([Window((1, 2), d) for d in range(9)], 2, seed=0)
        [Window(tokens=(1, 2), document=6), Window(tokens=(1, 2), document=8)]
    """
    if most is None or most >= len(windows):
        return list(windows)
    chosen = random.Random(seed).sample(range(len(windows)), most)
    return [windows[i] for i in sorted(chosen)]


def _prefix(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    added = tokenizer("")["input_ids"]
    begin = tokenizer.bos_token_id
    return (begin,) if begin is not None and added[:1] == [begin] else ()
