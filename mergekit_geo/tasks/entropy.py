"""Entropy of the classes that a model predicts, which needs no labels (Yang 2024).

Shapes: n things to be classified, v classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from mergekit_geo.errors import UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from mergekit_geo.data.labels import LabelMap
    from mergekit_geo.data.rows import Rows
    from mergekit_geo.tasks.task import Task


@runtime_checkable
class Classifies(Protocol):
    """A task whose models give each thing one of several classes.

    Attributes:
        labels: The classes.
    """

    labels: LabelMap

    @property
    def exclusive(self) -> bool:
        """Whether a thing has one class, and not any number of them."""

    def logits(self, model: Module, batch: dict[str, Tensor]) -> Tensor:
        """Logits (n, v) of a batch that is on the model's device."""

    def unlabelled(self, rows: Rows) -> Rows:
        """The rows with some label or other, whatever labels they have."""


def classifier(task: Task, where: str = "") -> Classifies:
    """The task, of which predictions have an entropy.

    Args:
        task: Any task.
        where: What is measured by it, for the message.

    Raises:
        UnsupportedError: Its predictions have none.
    """
    remedy = "models that classify texts, words or pictures"
    if not isinstance(task, Classifies):
        raise UnsupportedError(
            f"predictions of {task.name} have no entropy over classes", where=where, remedy=remedy
        )
    if not task.exclusive:
        raise UnsupportedError(
            f"predictions of {task.name} have no entropy over classes here: the model gives "
            "numbers, or any number of labels",
            where=where,
            remedy=remedy,
        )
    if task.labels.count == 1:
        raise UnsupportedError(
            "the model has one class: its predictions have no entropy", where=where, remedy=remedy
        )
    return task


def softmax_entropy(logits_nv: Tensor) -> Tensor:
    """Entropy in nats of each softmax: (n,).

    Example:
        >>> softmax_entropy(torch.zeros(1, 2)).tolist()  # log 2
        [0.6931471824645996]
    """
    logs_nv = torch.log_softmax(logits_nv.float(), dim=-1)
    return -(logs_nv.exp() * logs_nv).sum(dim=-1)
