"""The gradient of the mean training loss where a module stands on a curve.

Dropout is as trained, from a seed of the step and the process; batches and their sums are shared
among the processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from mergekit_geo.config.training import CurveFitConfig
from mergekit_geo.errors import DataError
from mergekit_geo.modules.blend import InPlace
from mergekit_geo.modules.weights import Weights
from mergekit_geo.processes import all_reduce, gather, world

if TYPE_CHECKING:
    from mergekit_geo.evaluation.batches import Shuffled
    from mergekit_geo.evaluation.objective import Batch

PRIME = 1_000_003
"""Multiplier that separates the random numbers of seeds from those of steps."""


class PointGradient:
    """Gradients of one batch after another, in a vector that the module adds into.

    Args:
        live: The module.
        weights: Its trainable parameters.
        batches: Training data in its order.
        settings: How.
        seed: Of dropout.

    Attributes:
        vector: (n,) the last gradient, on the module's device.
    """

    def __init__(
        self,
        live: InPlace,
        weights: Weights,
        batches: Shuffled,
        settings: CurveFitConfig,
        seed: int,
    ) -> None:
        self.live, self.weights, self.batches = live, weights, batches
        self.settings, self.seed = settings, seed
        self.vector = weights.zeros().to(weights.parameters[0].device)
        for parameter, view in zip(weights.parameters, weights.views(self.vector), strict=True):
            parameter.grad = view  # backward adds into the flat vector
        enable: Any = getattr(live.model, "gradient_checkpointing_enable", None)
        if settings.gradient_checkpointing and enable is not None:
            enable()

    def at(self, t: float, number: int, step: int) -> float:
        """Fill the vector where the module stands; returns the mean loss.

        Args:
            t: The place, for what is said when the loss is not a number.
            number: Of the batches, from 0, each used once.
            step: Of the fit, from 0.

        Raises:
            DataError: The loss is not a number.
        """
        self.vector.zero_()
        loss, weight = 0.0, 0.0
        rank, _ = world()
        devices = [] if self.vector.device.type == "cpu" else [self.vector.device]
        self.live.model.train()
        with torch.random.fork_rng(devices), torch.enable_grad():
            torch.manual_seed((self.seed * PRIME + number) * 1_009 + rank)
            for batch in self.own_batches(number):
                total, count = self._one(batch)
                loss, weight = loss + total, weight + count
        self.live.model.eval()
        totals = gather([(loss, weight)])
        loss, weight = sum(loss for loss, _ in totals), sum(weight for _, weight in totals)
        if not math.isfinite(loss):
            raise DataError(
                f"the training loss is not a number at step {step + 1}, t = {t:.4f}",
                remedy="a smaller --lr; the bends of the step before are kept",
            )
        self.vector.copy_(all_reduce(self.vector)).div_(weight)
        return loss / weight

    def own_batches(self, number: int) -> Sequence[Batch]:
        """This process's batches of a number."""
        rank, size = world()
        count = self.settings.accumulation
        first = (number * size + rank) * count
        return [self.batches.at(first + i) for i in range(count)]

    def release(self) -> None:
        """Release the vector that the module shares."""
        for parameter in self.weights.parameters:
            parameter.grad = None

    def _one(self, batch: Batch) -> tuple[float, float]:
        with self._precision():
            losses, weights = batch(self.live.model)
        dtype = self.vector.dtype
        total = losses.to(dtype) @ weights.to(dtype)
        total.backward()  # type: ignore[no-untyped-call]
        return float(total.detach()), float(weights.sum())

    def _precision(self) -> AbstractContextManager[object]:
        if not self.settings.bf16:
            return nullcontext()
        return torch.autocast(self.vector.device.type, torch.bfloat16)


def optimizer_of(
    vectors: Sequence[torch.Tensor], settings: CurveFitConfig, rate: float
) -> torch.optim.Optimizer:
    """The optimizer of the bends."""
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(vectors, lr=rate, weight_decay=0.0, fused=True)
    return torch.optim.SGD(vectors, lr=rate, momentum=0.9, nesterov=True)
