"""Texts and pairs of texts to one class, several classes, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.config.data import EvalData
from mergekit_geo.data.labels import LABEL, LabelMap
from mergekit_geo.data.rows import Rows, find_column, texts_of
from mergekit_geo.data.shape import TEXT
from mergekit_geo.data.unlabelled import labelled
from mergekit_geo.errors import DataError
from mergekit_geo.tasks.causal_lm import MOST_AT_ONCE
from mergekit_geo.tasks.kind import TaskInputs, TaskKind
from mergekit_geo.tasks.problem_types import PROBLEM_TYPES, Column, ProblemType, guess_problem_type
from mergekit_geo.tasks.shown import bracketed, decoded
from mergekit_geo.tasks.task import BatchLosses, Example, Task
from mergekit_geo.tasks.token_inputs import accepted, encode, inputs_of, pad_inputs, padding_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PAIRS = {
    "text": "text_pair",
    "sentence1": "sentence2",
    "premise": "hypothesis",
    "question1": "question2",
    "question": "sentence",
}
"""Usual names of two texts that belong together."""


class SequenceClassification:
    """Loss of a whole text's label.

    Args:
        tokenizer: Of the models.
        seq_len: Most tokens of a text or pair; what is longer is cut.
        config: Names the labels and, if it does, the problem type.
        data: Names of the columns.
    """

    name, unit, metric = "sequence-classification", "example", "accuracy"

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, seq_len: int, config: Config, data: EvalData
    ) -> None:
        self.tokenizer, self.seq_len, self.data = tokenizer, seq_len, data
        self.labels, self.asked_type = LabelMap.of(config), config.get("problem_type")
        self.model_padding = padding_id(config)
        self.padding = padding_id(config, tokenizer) or 0
        self._set_type(self.asked_type or guess_problem_type([], self.labels))

    def columns(self, rows: Rows) -> Sequence[str]:
        """The columns of texts and, unless its cells are lists, of labels: a list may be empty."""
        label = self._label_column(rows)
        return [*self._columns(rows), *([] if _are_lists(rows, label) else [label])]

    def examples(self, rows: Rows) -> list[Example]:
        """One example per row; labels decide the problem type if the configuration has none.

        Where labels are lists, a row without one is left out.

        Raises:
            DataError: A column is missing, or a label is not one of the model's.
        """
        label = self._label_column(rows)
        texts = [texts_of(rows, column) for column in self._columns(rows)]
        labelled = self._labelled(rows, label)
        column = Column(
            [rows.cells[row][label] for row in labelled],
            [rows.names[row] for row in labelled],
            rows.source,
        )
        self._set_type(self.asked_type or guess_problem_type(column.cells, self.labels))
        targets = self.type.targets(column, self.labels)
        encoded = encode(self.tokenizer, rows, self.seq_len, *texts)
        found = []
        for row, target in zip(labelled, targets, strict=True):
            inputs = inputs_of(encoded, row)
            fields = {**inputs, "target": target}
            found.append(Example(row, len(inputs["input_ids"]), 1, fields))
        return found

    def shown(self, example: Example) -> str:
        """The text, and its label, labels or number in brackets."""
        text = decoded(self.tokenizer, example.fields["input_ids"])
        return f"{text}\n{bracketed(self._named(example.fields['target']))}"

    def _named(self, target: Any) -> str:
        if isinstance(target, int):
            return self.labels.name(target)
        if self.type is PROBLEM_TYPES["regression"]:
            return ", ".join(f"{number:g}" for number in target)
        return ", ".join(self.labels.name(i) for i, has in enumerate(target) if has) or "none"

    def texts(self, rows: Rows) -> list[list[str]]:
        """The text of every row, or its two, without the label."""
        columns = [texts_of(rows, column) for column in self._columns(rows)]
        return [list(texts) for texts in zip(*columns, strict=True)]

    def batch_size(self, examples: Sequence[Example]) -> int:
        """A fixed number: there are few logits."""
        return MOST_AT_ONCE

    def batch(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Inputs (b, length), and targets (b,) of classes or (b, labels) of anything else."""
        targets = torch.tensor([example.fields["target"] for example in examples])
        return {**pad_inputs(examples, self.padding), "target": targets}

    def losses(self, model: Module, batch: dict[str, Tensor]) -> BatchLosses:
        """Cross entropy in nats; of several labels the mean, of numbers the squared error."""
        return self.type.losses(self.logits(model, batch), batch["target"])

    def logits(self, model: Module, batch: dict[str, Tensor]) -> Tensor:
        """Logits of every class of each text: (b, classes)."""
        inputs = accepted(model, batch)
        if self.model_padding is not None:
            found: Tensor = model(**inputs).logits
            return found
        return torch.cat(_one_by_one(model, inputs))

    @property
    def exclusive(self) -> bool:
        """Whether a text has one of several classes."""
        return self.type is PROBLEM_TYPES["single_label_classification"]

    def unlabelled(self, rows: Rows) -> Rows:
        """The rows with some label or other, whatever labels they have."""
        return labelled(rows, self.data.label_column or LABEL[0], lambda cells: 0)

    def _labelled(self, rows: Rows, label: str) -> list[int]:
        """Rows with a label; where each is a list, it may be empty and not null."""
        every = list(range(len(rows.cells)))
        if not _are_lists(rows, label):
            return every
        return [row for row in every if rows.cells[row][label] is not None]

    def _set_type(self, name: str) -> None:
        if name not in PROBLEM_TYPES:
            raise DataError(
                f"problem_type {name!r} in config.json: expected one of {', '.join(PROBLEM_TYPES)}"
            )
        self.type: ProblemType = PROBLEM_TYPES[name]
        self.metric = self.type.metric

    def _label_column(self, rows: Rows) -> str:
        return find_column(rows, self.data.label_column, LABEL, "label", "--label-column")

    def _columns(self, rows: Rows) -> list[str]:
        """The column of texts and, if there is one, of those that go with them."""
        pairs = [name for name, other in PAIRS.items() if {name, other} <= {*rows.columns}]
        usual = (*pairs, *TEXT, *PAIRS)
        first = find_column(rows, self.data.text_column, usual, "text", "--text-column")
        if first not in pairs:
            return [first]
        note = f"its second text is taken from column {PAIRS[first]!r}"
        rows.notes.extend([] if note in rows.notes else [note])
        return [first, PAIRS[first]]


def _are_lists(rows: Rows, column: str) -> bool:
    return any(isinstance(cells.get(column), list) for cells in rows.cells)


def _one_by_one(model: Module, inputs: dict[str, Tensor]) -> list[Tensor]:
    """Logits of each text alone.

    A causal model reads the class at the last token that is not padding, and cannot tell which that
    is if its configuration names no padding.
    """
    lengths = inputs["attention_mask"].sum(dim=1).tolist()
    return [
        model(**{name: tensor[row : row + 1, :length] for name, tensor in inputs.items()}).logits
        for row, length in enumerate(lengths)
    ]


def _make(parts: TaskInputs) -> Task:
    tokenizer = parts.tokenizer()
    return SequenceClassification(tokenizer, parts.seq_len(tokenizer), parts.config, parts.data)


KIND = TaskKind(
    "sequence-classification",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "AutoModelForSequenceClassification",
    _make,
)
