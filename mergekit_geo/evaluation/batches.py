"""Differentiable batches: of some examples, or of all in a seeded order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.objective import Objective, TaskObjective
from mergekit_geo.tasks.losses import Indices

if TYPE_CHECKING:
    from mergekit_geo.evaluation.objective import Batch


class Shuffled:
    """Batches of one epoch after another, each in an order of its own.

    Args:
        objective: The examples; batches of a function of the caller's stay as they are.
        batch_size: Examples of a batch of a task; the last of an epoch is left out if smaller.
        seed: Another seed is another order.

    Raises:
        DataError: There are no examples.
    """

    def __init__(self, objective: Objective, batch_size: int, seed: int) -> None:
        self.objective, self.batch_size, self.seed = objective, batch_size, seed
        self._epoch = lru_cache(maxsize=1)(self._shuffled)
        self._count = len(self._epoch(0))
        if not self._count:
            raise DataError("no training examples")

    @property
    def count(self) -> int:
        """Batches of an epoch."""
        return self._count

    @property
    def size(self) -> int | None:
        """Examples of a batch; None where batches are the caller's."""
        if not isinstance(self.objective, TaskObjective):
            return None
        return min(self.batch_size, len(self.objective.kept))

    def at(self, number: int) -> Batch:
        """The batch of a number, from 0: losses and weights of a model on it."""
        return self._epoch(number // self._count)[number % self._count][0]

    def weight(self, number: int) -> float:
        """What the same batch counts: its tokens or examples; 1 where only a model tells."""
        return self._epoch(number // self._count)[number % self._count][1]

    def _shuffled(self, epoch: int) -> list[tuple[Batch, float]]:
        draw = random.Random(self.seed * 1_000_003 + epoch)
        objective = self.objective
        if not isinstance(objective, TaskObjective):
            pieces = [(piece, 1.0) for piece in objective.batches()]
            draw.shuffle(pieces)
            return pieces
        kept, rows = objective.kept, list(range(len(objective.kept)))
        draw.shuffle(rows)
        size = min(self.batch_size, len(rows))
        batches = [np.array(rows[i : i + size]) for i in range(0, len(rows) - size + 1, size)]
        return [(partial(objective.batch, b), sum(kept[i].weight for i in b)) for b in batches]


def batches_of_rows(objective: Objective, rows: Indices, model: Module) -> list[Batch]:
    """Batches of some examples only: losses and weights of each.

    A function of the caller's runs on its batches as they are; the other examples weigh nothing.

    Args:
        objective: All examples.
        rows: Indices of those that count.
        model: Any; tells how many examples the caller's batches hold.
    """
    if isinstance(objective, TaskObjective):
        return objective.of(rows).batches()
    found: list[Batch] = []
    first = 0
    for batch in objective.batches():
        with torch.no_grad():
            count = len(batch(model)[0])
        counts = np.isin(np.arange(first, first + count), rows)
        first += count
        if counts.any():
            found.append(partial(_masked, batch, torch.from_numpy(counts)))
    return found


def weighed(batches: Sequence[Batch], factor: float) -> list[Batch]:
    """Batches whose examples weigh so much more.

    Args:
        batches: Losses and weights of each, as functions of a model.
        factor: Of all weights; the inverse of their sum makes them sum to one.
    """
    return [partial(_weighed, batch, factor) for batch in batches]


def _weighed(batch: Batch, factor: float, model: Module) -> tuple[Tensor, Tensor]:
    loss, weight = batch(model)
    return loss, weight * factor


def _masked(batch: Batch, counts: Tensor, model: Module) -> tuple[Tensor, Tensor]:
    loss, weight = batch(model)
    mask = counts.to(weight.device)
    return torch.where(mask, loss, torch.zeros_like(loss)), weight * mask
