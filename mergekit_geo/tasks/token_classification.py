"""Words to classes: named entities, parts of speech."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.config.data import EvalData
from mergekit_geo.data.labels import LabelMap
from mergekit_geo.data.rows import Rows, find_column
from mergekit_geo.data.unlabelled import labelled
from mergekit_geo.errors import DataError
from mergekit_geo.tasks.causal_lm import MOST_AT_ONCE
from mergekit_geo.tasks.counted_logits import counted_logits
from mergekit_geo.tasks.kind import TaskInputs, TaskKind
from mergekit_geo.tasks.shown import bracketed, decoded
from mergekit_geo.tasks.task import BatchLosses, Example, Task
from mergekit_geo.tasks.token_inputs import accepted, encode, inputs_of, pad_inputs, padding_id
from mergekit_geo.tasks.token_losses import IGNORED, token_losses

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WORDS = ("tokens", "words")
TAGS = ("ner_tags", "tags", "labels", "pos_tags", "chunk_tags")


class TokenClassification:
    """Loss of every word's label, which its first token is asked for.

    Args:
        tokenizer: Of the models.
        seq_len: Most tokens of a row; words beyond are left out.
        config: Names the labels.
        data: Names of the columns.

    Raises:
        DataError: The tokenizer does not say which word a token is of.
    """

    name, unit, metric = "token-classification", "label", "accuracy"
    exclusive = True
    """A word has one of several classes."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, seq_len: int, config: Config, data: EvalData
    ) -> None:
        self.tokenizer, self.seq_len, self.data = tokenizer, seq_len, data
        self.labels, self.padding = LabelMap.of(config), padding_id(config, tokenizer) or 0
        if not tokenizer.is_fast:
            raise DataError("the tokenizer does not tell words apart; a tokenizer.json does")

    def columns(self, rows: Rows) -> Sequence[str]:
        """The columns of words and of their labels."""
        words, tags = self.data.text_column, self.data.label_column
        return (
            find_column(rows, words, WORDS, "words", "--text-column"),
            find_column(rows, tags, TAGS, "labels", "--label-column"),
        )

    def examples(self, rows: Rows) -> list[Example]:
        """One example per row with at least one labelled word.

        Raises:
            DataError: A column is missing, words and labels differ in number, a label is not one
                of the model's, or none is there.
        """
        column, tags = self.columns(rows)
        words, labels = [], []
        for cells, name in zip(rows.cells, rows.names, strict=True):
            words.append(_word_list(cells[column], column, name, rows.source))
            labels.append(self._classes(cells[tags], len(words[-1]), name, rows.source))
        encoded = encode(self.tokenizer, rows, self.seq_len, words, is_split_into_words=True)
        found = []
        for row, classes in enumerate(labels):
            fields = {
                **inputs_of(encoded, row),
                "labels": _on_first(encoded.word_ids(row), classes),
            }
            weight = sum(label != IGNORED for label in fields["labels"])
            found += [Example(row, len(fields["labels"]), weight, fields)] if weight else []
        if not found:
            raise DataError("no word has a label", where=rows.source)
        return found

    def shown(self, example: Example) -> str:
        """The text, each word's label in brackets behind its first token."""
        ids, labels = example.fields["input_ids"], example.fields["labels"]
        pieces = [decoded(self.tokenizer, [token]) for token in ids]
        told = ["" if i == IGNORED else bracketed(self.labels.name(i)) for i in labels]
        return " ".join(piece + label for piece, label in zip(pieces, told, strict=True))

    def texts(self, rows: Rows) -> list[list[str]]:
        """The words of every row as one text."""
        column, _ = self.columns(rows)
        return [[" ".join(map(str, cells[column]))] for cells in rows.cells]

    def batch_size(self, examples: Sequence[Example]) -> int:
        """A fixed number: there are few logits."""
        return MOST_AT_ONCE

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Inputs and labels (-100 where a token has none): (b, length) each."""
        return pad_inputs(examples, self.padding)

    def losses(self, model: Module, batch: dict[str, Tensor]) -> BatchLosses:
        """Mean cross entropy of each row's labels in nats, and every answer."""
        return token_losses(model, accepted(model, batch), batch["labels"], answers=True)

    def logits(self, model: Module, batch: dict[str, Tensor]) -> Tensor:
        """Logits of every class of each word that counts: (n, classes)."""
        counted = counted_logits(model, accepted(model, batch), batch["labels"] != IGNORED)
        return counted.values if counted.places is None else counted.values[counted.places]

    def unlabelled(self, rows: Rows) -> Rows:
        """The rows with some label or other of every word, whatever labels they have."""
        words = find_column(rows, self.data.text_column, WORDS, "words", "--text-column")
        tags = self.data.label_column or TAGS[0]
        return labelled(rows, tags, lambda cells: [0] * len(cells[words] or ()))

    def _classes(self, cell: Any, words: int, name: str, source: str) -> list[int]:
        count = len(cell) if isinstance(cell, list) else 0
        if count != words:
            raise DataError(f"{name} has {words} words and {count} labels", where=source)
        return [
            IGNORED if label == IGNORED else self.labels.index(label, name, source)
            for label in cell
        ]


def _word_list(cell: Any, column: str, name: str, source: str) -> list[str]:
    if isinstance(cell, list) and all(isinstance(word, str) for word in cell):
        return cell
    raise DataError(
        f"{name} has no list of words in column {column!r}, found {type(cell).__name__}",
        where=source,
    )


def _on_first(words: Sequence[int | None], classes: Sequence[int]) -> list[int]:
    """Each word's class at its first token, and no label elsewhere.

    Example:
        >>> _on_first([None, 0, 0, 1, None], [7, 8])
        [-100, 7, -100, 8, -100]
    """
    before = [None, *words[:-1]]
    return [
        IGNORED if word is None or word == last else classes[word]
        for last, word in zip(before, words, strict=True)
    ]


def _make(parts: TaskInputs) -> Task:
    tokenizer = parts.tokenizer()
    return TokenClassification(tokenizer, parts.seq_len(tokenizer), parts.config, parts.data)


KIND = TaskKind(
    "token-classification",
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "AutoModelForTokenClassification",
    _make,
)
