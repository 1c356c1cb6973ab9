"""Training batches in a seeded order, found by their number: a fit goes on where it was."""

from __future__ import annotations

import random
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.objective import Objective, TaskObjective

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
