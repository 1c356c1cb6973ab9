"""A path of least energy between two models: AutoNEB (Draxler 2018).

Pivots are pulled down across the path and never along it: each takes the part of its gradient that
is perpendicular to the path, and after every step all are set back to their shares of the path's
length. In cycles of falling rates; before each but the first, a pivot is inserted in every piece
whose loss rises above the line between its pivots by a fifth of the range of the whole path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mergekit_geo.config.training import CurveFitConfig
from mergekit_geo.connectivity.curves import Bends
from mergekit_geo.connectivity.point_gradient import PointGradient, optimizer_of
from mergekit_geo.geometry.curves import Polygon, respaced, rule_at
from mergekit_geo.modules.blend import InPlace
from mergekit_geo.modules.vectors import inner, norm

if TYPE_CHECKING:
    from mergekit_geo.evaluation.batches import Shuffled

RATES = (1.0, 1.0, 0.1, 0.01)
"""Learning rate of each cycle, as a share of the configured one."""
EXCESS = 0.2
"""Share of the path's range of losses by which a piece may rise above the line between its ends."""
INSIDE = (0.25, 0.5, 0.75)
"""Positions on a piece at which the loss is measured."""
MOST_PIVOTS = 15

Watch = Callable[[Bends, Sequence[float]], list[float]]
"""Losses at places on a path, always of the same examples."""


class Band:
    """A chain of pivots that is pulled down, with the interface of a `Fit`.

    Args:
        bends: The pivots; replaced when some are inserted.
        live: The module that runs along the chain.
        batches: Training data in its order.
        settings: How; `steps` in all, each a gradient at every pivot.
        seed: Of dropout.
        watch: Tells where pivots are missing, and the losses of the ends.
    """

    def __init__(
        self,
        bends: Bends,
        live: InPlace,
        batches: Shuffled,
        settings: CurveFitConfig,
        seed: int,
        watch: Watch,
    ) -> None:
        self.bends, self.settings, self.seed, self.watch = bends, settings, seed, watch
        self.gradient = PointGradient(live, bends.weights, batches, settings, seed)
        self.optimizer = self._fresh_optimizer()
        self.done = 0
        self._ends = bends.ends_in_memory()
        self._end_losses = watch(bends, (0.0, 1.0))

    def step(self) -> float:
        """Pull every pivot down once; returns the mean of their training losses.

        Raises:
            DataError: The loss is not a number; pivots and optimizer are as they were.
        """
        if self._begins_cycle():
            self._insert()
            self.optimizer = self._fresh_optimizer()
        losses = self._gradients()
        self._across(losses)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.step()
        for pivot in self.bends.vectors:
            pivot.grad = None
        self._respace()
        self.done += 1
        return sum(losses) / len(losses)

    def release(self) -> None:
        """Release the gradient vector that the module shares."""
        self.gradient.release()

    @property
    def places(self) -> tuple[float, ...]:
        """Positions t of the pivots on the path."""
        assert isinstance(self.bends.curve, Polygon)
        return self.bends.curve.places

    @property
    def _chain(self) -> list[Tensor]:
        return [self._ends[0], *self.bends.vectors, self._ends[1]]

    @property
    def _cycle(self) -> int:
        return min(self.done * len(RATES) // max(self.settings.length, 1), len(RATES) - 1)

    def _begins_cycle(self) -> bool:
        """Whether the next step is the first of a cycle that is not the first."""
        before = (self.done - 1) * len(RATES) // max(self.settings.length, 1)
        return self.done > 0 and before < self._cycle

    def _fresh_optimizer(self) -> torch.optim.Optimizer:
        rate = self.settings.rate(self.bends.weights.size)
        return optimizer_of(self.bends.vectors, self.settings, rate)

    def _rate(self) -> float:
        """Learning rate of the current cycle, with a warm-up of 20 steps."""
        warm_up = min(1.0, (self.done + 1) / 20)
        return self.settings.rate(self.bends.weights.size) * RATES[self._cycle] * warm_up

    def _gradients(self) -> list[float]:
        """A gradient at every pivot, each on a batch of its own; returns their losses."""
        losses, count = [], len(self.places)
        for i, (t, pivot) in enumerate(zip(self.places, self.bends.vectors, strict=True)):
            self.bends.put(rule_at(self.bends.curve, t))
            losses.append(self.gradient.at(t, self.done * MOST_PIVOTS + i % count, self.done))
            pivot.grad = self.gradient.vector.clone()
        return losses

    @torch.no_grad()
    def _across(self, losses: Sequence[float]) -> None:
        """Keep each gradient's component perpendicular to the path, and clip it.

        The tangent points to the neighbour with the higher loss (Henkelman 2000).
        """
        around = [self._end_losses[0], *losses, self._end_losses[1]]
        chain = self._chain
        for i, pivot in enumerate(self.bends.vectors, start=1):
            assert pivot.grad is not None
            forward = around[i + 1] >= around[i - 1]
            tangent = chain[i + 1] - chain[i] if forward else chain[i] - chain[i - 1]
            squared = inner(tangent, tangent)
            if squared > 0:
                pivot.grad.add_(tangent, alpha=-inner(pivot.grad, tangent) / squared)
            length = norm(pivot.grad)
            if length > self.settings.clip:
                pivot.grad.mul_(self.settings.clip / length)

    @torch.no_grad()
    def _respace(self) -> None:
        """Set every pivot to its share of the length of the chain."""
        chain = self._chain
        lengths = [norm(b - a) for a, b in pairwise(chain)]
        moved = [
            torch.lerp(chain[piece], chain[piece + 1], share)
            for piece, share in respaced(lengths, self.places)
        ]
        for pivot, target in zip(self.bends.vectors, moved, strict=True):
            pivot.copy_(target)

    @torch.no_grad()
    def _insert(self) -> None:
        """Insert pivots where the loss between two of them is too high."""
        corners = (0.0, *self.places, 1.0)
        inside = [a + share * (b - a) for a, b in pairwise(corners) for share in INSIDE]
        looked_at = sorted({*corners, *inside})
        dense = dict(zip(looked_at, self.watch(self.bends, looked_at), strict=True))
        new = missing(dense, corners)[: MOST_PIVOTS - len(self.places)]
        places = tuple(sorted({*self.places, *new}))
        grown = Bends(self.bends.ends, Polygon(places, kind="neb"), self.bends.live)
        chain = self._chain
        for vector, t in zip(grown.vectors, places, strict=True):
            first, last, *middle = self.bends.curve.weights(t)
            total = torch.zeros_like(vector)
            for point, weight in zip(chain, (first, *middle, last), strict=True):
                if weight:
                    total.add_(point, alpha=weight)
            vector.copy_(total)
        self.bends = grown


def missing(dense: Mapping[float, float], corners: Sequence[float]) -> list[float]:
    """Where pivots are missing: the highest point of every piece that rises too far, worst first.

    Args:
        dense: Loss at corners and at places between them.
        corners: Of the chain, ends included.

    Example:
        >>> missing({0.0: 1.0, 0.25: 3.0, 0.5: 1.0, 0.75: 1.1, 1.0: 1.0}, [0.0, 0.5, 1.0])
        [0.25]
    """
    allowed = EXCESS * (max(dense.values()) - min(dense.values()))
    found = []
    for left, right in pairwise(corners):
        rises = {
            t: loss - _between(left, dense[left], right, dense[right], t)
            for t, loss in dense.items()
            if left < t < right
        }
        top = max(rises, key=lambda t: rises[t], default=None)
        if top is not None and rises[top] > allowed:
            found.append((rises[top], top))
    return [t for _, t in sorted(found, reverse=True)]


def _between(left: float, low: float, right: float, high: float, t: float) -> float:
    return low + (t - left) / (right - left) * (high - low)
