"""What a classifier of texts may be asked: one class, several, or a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mergekit_geo.data.labels import LabelMap
from mergekit_geo.data.text_pairs import number_in
from mergekit_geo.errors import DataError
from mergekit_geo.tasks.drawn_labels import class_labels, label_sets, numbers
from mergekit_geo.tasks.task import BatchLosses


@dataclass(frozen=True)
class Column:
    """Labels of all rows.

    Attributes:
        cells: As they are in the data.
        names: What each row is called.
        source: Where they are from.
    """

    cells: Sequence[Any]
    names: Sequence[str]
    source: str


@dataclass(frozen=True)
class ProblemType:
    """A problem type: how labels are read, and the loss.

    Attributes:
        metric: What the score is called; empty where there is none.
        targets: From a column to what the loss takes, one a row.
        losses: From (b, classes) logits and the targets.
    """

    metric: str
    targets: Callable[[Column, LabelMap], list[Any]]
    losses: Callable[[Tensor, Tensor], BatchLosses]


def guess_problem_type(cells: Sequence[Any], labels: LabelMap) -> str:
    """Guess the problem type from the number of labels and the values, as transformers does.

    Example:
        >>> guess_problem_type([[0, 2], [1]], LabelMap(3, {}))
        'multi_label_classification'
    """
    if labels.count == 1:
        return "regression"
    several = any(_is_list(cell) for cell in cells)
    return "multi_label_classification" if several else "single_label_classification"


def class_losses(logits: Tensor, targets: Tensor) -> BatchLosses:
    """Cross entropy in nats, and whether the largest logit is the right one.

    Args:
        logits: (b, classes).
        targets: (b,) class of each.
    """
    predicted, targets = logits.argmax(dim=-1), class_labels(logits, targets)
    return BatchLosses(
        functional.cross_entropy(logits.float(), targets, reduction="none"),
        (predicted == targets).float(),
        torch.arange(len(targets), device=targets.device),
        targets,
        predicted,
    )


def _classes(column: Column, labels: LabelMap) -> list[int]:
    return [
        labels.index(cell, name, column.source)
        for cell, name in zip(column.cells, column.names, strict=True)
    ]


def _label_sets(column: Column, labels: LabelMap) -> list[list[float]]:
    """A 0 or 1 for every label; cells are that already, or list the labels that hold."""
    found = []
    ready = all(_is_multi_hot(cell, labels.count) for cell in column.cells)
    for cell, name in zip(column.cells, column.names, strict=True):
        if not _is_list(cell):
            raise DataError(
                f"{name} has the label {cell!r}; expected a list of labels", where=column.source
            )
        held = {labels.index(part, name, column.source) for part in cell} if not ready else set()
        found.append([float(cell[i] if ready else i in held) for i in range(labels.count)])
    return found


def _numbers(column: Column, labels: LabelMap) -> list[list[float]]:
    found = []
    for cell, name in zip(column.cells, column.names, strict=True):
        numbers = [number_in(part) for part in (cell if _is_list(cell) else [cell])]
        if len(numbers) != labels.count or not all(map(math.isfinite, numbers)):
            noun = "number" if labels.count == 1 else "numbers"
            raise DataError(
                f"{name} has the label {cell!r}; expected {labels.count} {noun}",
                where=column.source,
            )
        found.append(numbers)
    return found


def _label_set_losses(logits: Tensor, targets: Tensor) -> BatchLosses:
    targets = label_sets(logits, targets)
    loss = functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    right = (logits > 0) == (targets > 0)
    return BatchLosses(loss.mean(dim=-1), right.float().mean(dim=-1))


def _squared_errors(logits: Tensor, targets: Tensor) -> BatchLosses:
    targets = numbers(logits, targets)
    return BatchLosses((logits.float() - targets).square().mean(dim=-1))


def _is_list(cell: Any) -> bool:
    return isinstance(cell, Sequence) and not isinstance(cell, str)


def _is_multi_hot(cell: Any, count: int) -> bool:
    numbers = _is_list(cell) and len(cell) == count
    return numbers and all(not isinstance(part, str) and part in (0, 1) for part in cell)


PROBLEM_TYPES = {
    "single_label_classification": ProblemType("accuracy", _classes, class_losses),
    "multi_label_classification": ProblemType("label accuracy", _label_sets, _label_set_losses),
    "regression": ProblemType("", _numbers, _squared_errors),
}
"""Problem types by transformers' names."""
