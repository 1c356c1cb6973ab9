"""A line search along the eigenvector of the smallest eigenvalue, in both directions.

The first length is that at which the parabola of λ_min has fallen by what counts; it is doubled
while the loss falls, or halved until it does, and then quarters of the best length are looked at.
Which one is best is told by the training loss alone; the held-out loss is measured beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import Module

from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.objective import Objective, TaskObjective
from mergekit_geo.evaluation.split import Split
from mergekit_geo.evaluation.statistics import paired_difference
from mergekit_geo.records.escape import EscapePoint, EscapeStep
from mergekit_geo.records.losses import Estimate
from mergekit_geo.tasks.losses import Losses

DOUBLINGS, HALVINGS = 30, 12
"""Most of each, in each direction."""

QUARTERS = 8
"""Number of quarters of the best length that are looked at last, in each direction."""


@dataclass
class HeldOut:
    """Losses on the report half of held-out data, or on all of it where that is too small.

    Attributes:
        objective: All held-out examples.
        model: The module that is measured.
        seed: Of the halves.
    """

    objective: Objective
    model: Module
    seed: int
    _split: Split | None = None
    _known: bool = False

    def losses(self) -> Losses:
        """Losses where the module stands."""
        found = self.objective.measure(self.model)
        if not self._known:
            self._known = True
            found = self._halved(found)
        elif self._split is not None:
            found = found.take(self._split.report)
        return found

    def _halved(self, found: Losses) -> Losses:
        try:
            split = Split.of(found, self.objective.documents, self.seed)
        except DataError:  # too few documents
            return found
        if isinstance(self.objective, TaskObjective):
            self.objective = self.objective.of(split.report)
        else:
            self._split = split
        return found.take(split.report)


def change(after: Losses, before: Losses) -> Estimate:
    """Paired difference of the held-out loss."""
    return paired_difference(after, before).estimate


def line_search(
    loss: MeanLoss, direction: Tensor, curvature: float, fall: float, held_out: HeldOut | None
) -> EscapeStep:
    """The best step along ±v.

    Args:
        loss: L, at θ; chooses. The weights are afterwards what they were.
        direction: (n,) v, a unit vector.
        curvature: v^T H v, negative.
        fall: Of the loss that counts.
        held_out: Of the same module; None without held-out data.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
        >>> _ = torch.nn.init.zeros_(model.weight)
        >>> def well(model):  # L = w^4 - 2 w^2, lowest at w = 1 and -1
        ...     return model.weight[0] ** 4 - 2 * model.weight[0] ** 2, torch.ones(1)
        >>> v = torch.ones(1, dtype=torch.float64)
        >>> found = line_search(MeanLoss(model, [well]), v, -4.0, 0.005, None)
        >>> round(abs(found.length), 3), round(found.change, 3)
        (1.0, -1.0)
    """
    walk = _Walk(loss, direction, held_out)
    at = walk.at(0.0)
    first = math.sqrt(2 * fall / abs(curvature))
    for sign in (1, -1):
        _search(walk, sign * first)
    best = walk.best
    if best:
        for quarters in range(-QUARTERS, QUARTERS + 1):
            walk.at(best * quarters / 4)
        best = walk.best
    moved = walk.held.get(best)
    return EscapeStep(
        length=best,
        change=walk.found[best] - at,
        held_out=None if moved is None else change(moved, walk.held[0.0]),
        curve=walk.curve(),
    )


def _search(walk: _Walk, length: float) -> None:
    """Lengths in one direction: doubled while the loss falls, or halved until it does."""
    best = walk.at(0.0)
    if walk.at(length) < best:
        for _ in range(DOUBLINGS):
            best, length = walk.at(length), 2 * length
            if not walk.at(length) < best:
                return
    else:
        for _ in range(HALVINGS):
            length /= 2
            if walk.at(length) < best:
                return


class _Walk:
    """Losses along one direction, each measured once."""

    def __init__(self, loss: MeanLoss, direction: Tensor, held_out: HeldOut | None) -> None:
        self.loss, self.direction, self.held_out = loss, direction, held_out
        self.found: dict[float, float] = {}
        self.held: dict[float, Losses] = {}

    @property
    def best(self) -> float:
        """The length of lowest loss."""
        known = [length for length, loss in self.found.items() if math.isfinite(loss)]
        return min(known, key=self.found.__getitem__)

    def at(self, length: float) -> float:
        """The loss at a length."""
        if length not in self.found:
            with self.loss.weights.moved(self.direction, length):
                self.found[length] = self.loss.value()
                if self.held_out is not None:
                    self.held[length] = self.held_out.losses()
        return self.found[length]

    def curve(self) -> list[EscapePoint]:
        """All places in order."""
        return [
            EscapePoint(
                length=length,
                loss=self.found[length],
                held_out=self.held[length].mean if length in self.held else None,
            )
            for length in sorted(self.found)
        ]
