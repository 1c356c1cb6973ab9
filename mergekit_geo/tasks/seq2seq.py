"""Sequence to sequence: the loss of a target text given its source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import Module

from mergekit_geo.config.data import EvalData
from mergekit_geo.data.rows import Rows, find_column, texts_of
from mergekit_geo.errors import DataError
from mergekit_geo.tasks.causal_lm import LOGIT_ELEMENTS, MOST_AT_ONCE
from mergekit_geo.tasks.kind import TaskInputs, TaskKind
from mergekit_geo.tasks.shown import bracketed, decoded
from mergekit_geo.tasks.task import BatchLosses, Example, Task
from mergekit_geo.tasks.token_inputs import accepted, encode, inputs_of, pad_inputs, padding_id
from mergekit_geo.tasks.token_losses import token_losses

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SOURCE = ("source", "input", "text", "document", "article", "dialogue", "question", "content")
TARGET = ("target", "summary", "output", "highlights", "answer", "response", "completion", "label")


class Seq2SeqLM:
    """Loss of every token of the target given those before it and the source.

    Args:
        tokenizer: Of the models.
        seq_len: Most tokens of a source, and of a target; what is longer is cut.
        vocabulary: Size of the logits.
        data: Names of the columns.
        padding: Id that fills up shorter sources.
    """

    name, unit, metric = "seq2seq-lm", "token", "next-token accuracy"

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

    def columns(self, rows: Rows) -> Sequence[str]:
        """The columns of sources and of targets."""
        source, target = self.data.text_column, self.data.label_column
        return (
            find_column(rows, source, SOURCE, "source text", "--text-column"),
            find_column(rows, target, TARGET, "target text", "--label-column"),
        )

    def examples(self, rows: Rows) -> list[Example]:
        """One example per row; rows whose target has no tokens are left out.

        Raises:
            DataError: A column is missing or not text, or no target has tokens.
        """
        column, wanted = self.columns(rows)
        sources = encode(self.tokenizer, rows, self.seq_len, texts_of(rows, column))
        texts = texts_of(rows, wanted)
        targets = encode(self.tokenizer, rows, self.seq_len, text_target=texts)["input_ids"]
        found = []
        for row, labels in enumerate(targets):
            if labels:
                fields = {**inputs_of(sources, row), "labels": labels}
                size = len(fields["input_ids"]) + len(labels)
                found.append(Example(row, size, len(labels), fields))
        if not found:
            raise DataError(f"no target has tokens in column {wanted!r}", where=rows.source)
        return found

    def byte_counts(self, rows: Rows, examples: Sequence[Example]) -> list[int]:
        """UTF-8 bytes of every target; of one that was cut, of what is left of it."""
        counts = [len(text.encode()) for text in texts_of(rows, self.columns(rows)[1])]
        for example in examples:
            labels = example.fields["labels"]
            if len(labels) == self.seq_len:
                left = str(self.tokenizer.decode(labels, skip_special_tokens=True))
                counts[example.document] = min(counts[example.document], len(left.encode()))
        return counts

    def shown(self, example: Example) -> str:
        """The source, and its target in brackets."""
        source, target = (
            decoded(self.tokenizer, example.fields[name]) for name in ("input_ids", "labels")
        )
        return f"{source}\n{bracketed(target)}"

    def batch_size(self, examples: Sequence[Example]) -> int:
        """Number of targets whose logits stay small."""
        longest = max(len(example.fields["labels"]) for example in examples)
        return max(1, min(MOST_AT_ONCE, LOGIT_ELEMENTS // (longest * self.vocabulary)))

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Inputs (b, longest source) and labels (b, longest target), -100 beyond a target."""
        return pad_inputs(examples, self.padding)

    def losses(self, model: Module, batch: dict[str, Tensor]) -> BatchLosses:
        """Mean negative log-likelihood of each target's tokens, in nats."""
        inputs = {**accepted(model, batch), **decoder_inputs(model, batch["labels"])}
        return token_losses(model, {**inputs, "use_cache": False}, batch["labels"])


def decoder_inputs(model: Module, labels: Tensor) -> dict[str, Tensor]:
    """The target shifted right; by the model itself where it has no function for that."""
    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    return {"labels": labels} if shift is None else {"decoder_input_ids": shift(labels)}


def _make(parts: TaskInputs) -> Task:
    tokenizer = parts.tokenizer()
    length, vocabulary = parts.seq_len(tokenizer), parts.vocabulary(tokenizer)
    padding = padding_id(parts.config, tokenizer) or 0
    return Seq2SeqLM(tokenizer, length, vocabulary, parts.data, padding)


KIND = TaskKind(
    "seq2seq-lm",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "AutoModelForSeq2SeqLM",
    _make,
    counts_bytes=True,
)
