"""The mean loss of a module on fixed examples, as a function of its weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import Module

from mergekit_geo.errors import DataError
from mergekit_geo.modules.weights import Weights
from mergekit_geo.processes import all_reduce, gather, world

if TYPE_CHECKING:
    from mergekit_geo.evaluation.objective import Batch


class MeanLoss:
    """L(θ) = Σ w_i l_i / Σ w_i over all examples, batch by batch; processes share the batches.

    Args:
        model: In evaluation mode; only its trainable parameters are moved.
        batches: The batches, from `Objective.batches`.
        spend: Told of the cost of every batch, in gradients of it.
    """

    def __init__(
        self,
        model: Module,
        batches: Sequence[Batch],
        spend: Callable[[float], None] = lambda gradients: None,
    ) -> None:
        self.model, self.batches, self.spend = model, batches, spend
        self.weights = Weights(model)

    def part(self, first: int, step: int) -> MeanLoss:
        """This mean loss on every n-th batch."""
        return MeanLoss(self.model, self.batches[first::step], self.spend)

    @torch.no_grad()
    def value(self) -> float:
        """The mean loss; it may be infinite or no number."""
        loss, weight = 0.0, 0.0
        for losses, weights in self.own_losses():
            loss += _summed_loss(losses, weights)
            weight += float(weights.sum())
            self.spend(1 / 3)
        totals = gather([(loss, weight)])
        return sum(loss for loss, _ in totals) / sum(weight for _, weight in totals)

    def gradient(self) -> tuple[float, Tensor]:
        """The mean loss and its gradient: (n,).

        Raises:
            DataError: The loss is not a number.
        """
        loss, weight, total = self.sums()
        return loss / weight, total.div_(weight)

    def sums(self) -> tuple[float, float, Tensor]:
        """Summed loss, summed weight and summed gradient (n,), before the division.

        Raises:
            DataError: The loss is not a number.
        """
        loss, weight, total = 0.0, 0.0, self.weights.zeros()
        for losses, weights in self.own_losses():
            scalar = losses.to(self.weights.dtype) @ weights.to(self.weights.dtype)
            self.add(total, self.differentiate(scalar))
            loss += _summed_loss(losses, weights)
            weight += float(weights.sum())
            self.spend(1.0)
        return self._over_processes(loss, weight, total)

    def own_losses(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Losses and weights of this process's batches."""
        rank, size = world()
        for batch in self.batches[rank::size]:
            yield batch(self.model)

    def differentiate(
        self, scalar: Tensor, *, again: bool = False, keep: bool = False
    ) -> Sequence[Tensor]:
        """Gradient with respect to every parameter; zeros where it does not depend on one.

        Args:
            scalar: What is differentiated.
            again: The gradient is to be differentiated, too.
            keep: The same scalar's graph is to be gone through again.
        """
        return torch.autograd.grad(
            scalar,
            self.weights.parameters,
            create_graph=again,
            retain_graph=again or keep,
            materialize_grads=True,
        )

    @torch.no_grad()
    def add(self, total: Tensor, parts: Iterable[Tensor]) -> None:
        """Add a gradient to a vector."""
        for view, part in zip(self.weights.views(total), parts, strict=True):
            view.add_(part.to(view.device))

    def _over_processes(
        self, loss: float, weight: float, total: Tensor
    ) -> tuple[float, float, Tensor]:
        totals = gather([(loss, weight)])
        loss = sum(loss for loss, _ in totals)
        if not math.isfinite(loss):
            raise DataError("the loss is not a number")
        return loss, sum(weight for _, weight in totals), all_reduce(total)


def _summed_loss(losses: Tensor, weights: Tensor) -> float:
    """Sum losses in float64, alike with and without gradients: equal losses differ by exactly 0."""
    return float(losses.detach().double() @ weights.double())
