"""Masked language modelling: hidden tokens of windows of text, the same ones for every model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import Module

from mergekit_geo.config.data import EvalData
from mergekit_geo.data.rows import Rows, find_column, texts_of
from mergekit_geo.data.shape import TEXT
from mergekit_geo.errors import DataError
from mergekit_geo.tasks.causal_lm import LOGIT_ELEMENTS, MOST_AT_ONCE
from mergekit_geo.tasks.kind import TaskInputs, TaskKind
from mergekit_geo.tasks.shown import decoded, marked
from mergekit_geo.tasks.task import BatchLosses, Example, Task
from mergekit_geo.tasks.token_inputs import accepted, pad_inputs, padding_id
from mergekit_geo.tasks.token_losses import token_losses

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHARE = 0.15
"""Share of tokens that are masked (Devlin et al. 2019), always by the mask token."""


class MaskedLM:
    """Loss of masked tokens given those around them.

    Args:
        tokenizer: Of the models.
        seq_len: Tokens in a window, special ones included.
        vocabulary: Size of the logits.
        data: Name of the text column, and the seed that masks are drawn with.
        padding: Id that fills up shorter windows.

    Raises:
        DataError: The tokenizer has no mask token.
    """

    name, unit, metric = "masked-lm", "token", "masked-token accuracy"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        seq_len: int,
        vocabulary: int,
        data: EvalData,
        padding: int = 0,
    ) -> None:
        self.tokenizer, self.seq_len, self.vocabulary = tokenizer, seq_len, vocabulary
        self.data, self.padding = data, padding
        if tokenizer.mask_token_id is None:
            raise DataError("the tokenizer has no mask token, which masked-lm needs")
        self.mask: int = tokenizer.mask_token_id

    def columns(self, rows: Rows) -> Sequence[str]:
        """The column of text."""
        return (find_column(rows, self.data.text_column, TEXT, "text", "--text-column"),)

    def examples(self, rows: Rows) -> list[Example]:
        """Windows of every row that do not overlap, each between the special tokens.

        Raises:
            DataError: No row has a token that can be masked, or windows hold no text.
        """
        (column,) = self.columns(rows)
        texts = texts_of(rows, column)
        prefix, suffix = around(self.tokenizer, next((t for t in texts if t.strip()), ""))
        step = self.seq_len - len(prefix) - len(suffix)
        if step < 1:
            raise DataError(f"windows of {self.seq_len} tokens hold special tokens alone")
        found = []
        for document, text in enumerate(texts):
            ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            for start in range(0, len(ids), step):
                window = self._window(document, start // step, ids[start : start + step])
                found += [] if window is None else [_enclosed(window, prefix, suffix)]
        if not found:
            raise DataError("the text is too short: no token can be masked", where=rows.source)
        return found

    def shown(self, example: Example) -> str:
        """A window with brackets around the tokens that are masked."""
        return marked(self.tokenizer, example.fields["input_ids"], example.fields["labels"])

    def window_text(self, example: Example) -> str:
        """The text of one window, nothing masked, without special tokens."""
        ids, labels = example.fields["input_ids"], example.fields["labels"]
        own = [label if label >= 0 else token for token, label in zip(ids, labels, strict=True)]
        return decoded(self.tokenizer, own, special=False)

    def batch_size(self, examples: Sequence[Example]) -> int:
        """Number of windows whose logits stay small."""
        longest = max(example.size for example in examples)
        return max(1, min(MOST_AT_ONCE, LOGIT_ELEMENTS // (longest * self.vocabulary)))

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Ids, attention mask and labels (-100 where nothing is masked): (b, length) each."""
        return pad_inputs(examples, self.padding)

    def losses(self, model: Module, batch: dict[str, Tensor]) -> BatchLosses:
        """Mean negative log-likelihood of each window's masked tokens, in nats."""
        return token_losses(model, accepted(model, batch), batch["labels"])

    def _window(self, document: int, number: int, ids: list[int]) -> Example | None:
        """A window with some of its tokens masked, at least one; None where none can be."""
        special = set(self.tokenizer.all_special_ids)
        maskable = [place for place, token in enumerate(ids) if token not in special]
        if not maskable:
            return None
        draw = random.Random(f"{self.data.seed}/{document}/{number}")
        chosen = set(draw.sample(maskable, max(1, round(SHARE * len(maskable)))))
        fields = {
            "input_ids": [self.mask if i in chosen else token for i, token in enumerate(ids)],
            "labels": [token if i in chosen else -100 for i, token in enumerate(ids)],
        }
        return Example(document, len(ids), len(chosen), fields)


def around(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before and after a text.

    Args:
        tokenizer: Any.
        text: One of which the tokenizer makes at least a token.
    """
    bare = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    whole = tokenizer(text, verbose=False)["input_ids"]
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    return [], []


def _enclosed(window: Example, prefix: list[int], suffix: list[int]) -> Example:
    ids = [*prefix, *window.fields["input_ids"], *suffix]
    labels = [-100] * len(prefix) + window.fields["labels"] + [-100] * len(suffix)
    fields = {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}
    return Example(window.document, len(ids), window.weight, fields)


def _make(parts: TaskInputs) -> Task:
    tokenizer = parts.tokenizer()
    length, vocabulary = parts.seq_len(tokenizer), parts.vocabulary(tokenizer)
    padding = padding_id(parts.config, tokenizer) or 0
    return MaskedLM(tokenizer, length, vocabulary, parts.data, padding)


KIND = TaskKind(
    "masked-lm",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "AutoModelForMaskedLM",
    _make,
    reads_plain_text=True,
)
