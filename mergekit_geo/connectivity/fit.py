"""Fitting a curve of low loss between two models (Garipov 2018, section 3).

Minimise E_{t ~ U(0, 1)} L(φ(t)) over the bends θ_j. A step writes φ(t) into an ordinary module and
runs an ordinary forward and backward pass; as φ(t) is linear in the bends, with factors c_j(t), the
gradient in a bend is c_j(t) times that in the weights. Of the steps before, a step needs the bends
and the optimizer and nothing else, so a fit that was interrupted goes on to the same result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mergekit_geo.connectivity.bends import Bends
from mergekit_geo.connectivity.settings import Fitting
from mergekit_geo.errors import DataError
from mergekit_geo.geometry.curves import rule_at
from mergekit_geo.live.blend import InPlace
from mergekit_geo.live.distributed import gathered, summed, world

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from mergekit_geo.objectives.objective import Piece
    from mergekit_geo.objectives.shuffled import Shuffled


class Fit:
    """A curve being fitted.

    Args:
        bends: Of the curve.
        live: The module that runs along it.
        batches: Training data in its order.
        settings: How.
        seed: Of t, of dropout.
    """

    def __init__(
        self, bends: Bends, live: InPlace, batches: Shuffled, settings: Fitting, seed: int
    ) -> None:
        self.bends, self.live, self.batches = bends, live, batches
        self.settings, self.seed, self.done = settings, seed, 0
        self.optimizer = _optimizer(bends.vectors, settings, bends.weights.size)
        self._gradient = torch.zeros_like(bends.vectors[0])
        for parameter, view in zip(
            bends.weights.parameters, bends.weights.views(self._gradient), strict=True
        ):
            parameter.grad = view  # backward adds into the flat vector
        enable: Any = getattr(live.model, "gradient_checkpointing_enable", None)
        if settings.gradient_checkpointing and enable is not None:
            enable()

    def step(self) -> float:
        """One step of the optimizer; returns the mean loss of its batches.

        Raises:
            DataError: The loss is not a number; bends and optimizer are as they were.
        """
        t = self.t_of(self.done)
        rule = rule_at(self.bends.curve, t)
        self.bends.put(rule)
        loss = self._backward(t)
        self._descend(rule.weights[2:])
        self.done += 1
        return loss

    def release(self) -> None:
        """Let go of the gradient that the module shares."""
        for parameter in self.bends.weights.parameters:
            parameter.grad = None

    def t_of(self, step: int) -> float:
        """Where on the curve a step is made: uniform on (0, 1), the same in every process."""
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        return float(torch.rand((), generator=draw, dtype=torch.float64))

    def _backward(self, t: float) -> float:
        """Gradient of the mean loss at the point, summed over batches and processes."""
        self._gradient.zero_()
        loss, weight = 0.0, 0.0
        rank, _ = world()
        devices = [] if self._gradient.device.type == "cpu" else [self._gradient.device]
        self.live.model.train()
        with torch.random.fork_rng(devices), torch.enable_grad():
            torch.manual_seed((self.seed * 1_000_003 + self.done) * 1_009 + rank)
            for piece in self._pieces():
                total, count = self._one(piece)
                loss, weight = loss + total, weight + count
        self.live.model.eval()
        totals = gathered([(loss, weight)])
        loss, weight = sum(loss for loss, _ in totals), sum(weight for _, weight in totals)
        if not math.isfinite(loss):
            raise DataError(
                f"the training loss is not a number at step {self.done + 1}, t = {t:.4f}",
                remedy="a smaller --lr; the bends of the step before are kept",
            )
        self._gradient.copy_(summed(self._gradient)).div_(weight)
        return loss / weight

    def _one(self, piece: Piece) -> tuple[float, float]:
        with self._precision():
            losses, weights = piece(self.live.model)
        dtype = self._gradient.dtype
        total = losses.to(dtype) @ weights.to(dtype)
        total.backward()  # type: ignore[no-untyped-call]
        return float(total.detach()), float(weights.sum())

    def _precision(self) -> AbstractContextManager[object]:
        if not self.settings.bf16:
            return nullcontext()
        return torch.autocast(self._gradient.device.type, torch.bfloat16)

    def _pieces(self) -> Sequence[Piece]:
        """This process's batches of the step."""
        rank, size = world()
        count = self.settings.accumulation
        first = (self.done * size + rank) * count
        return [self.batches.at(first + i) for i in range(count)]

    @torch.no_grad()
    def _descend(self, weights: tuple[float, ...]) -> None:
        """From the gradient in the weights to those in the bends, clipped after they are scaled."""
        length = math.hypot(*weights) * float(self._gradient.norm())
        shrink = min(1.0, self.settings.clip / length) if length > 0 else 1.0
        for bend, weight in zip(self.bends.vectors, weights, strict=True):
            bend.grad = self._gradient * (weight * shrink)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.step()
        for bend in self.bends.vectors:
            bend.grad = None

    def _rate(self) -> float:
        """Warm-up, then constant to half of the steps, down to 1 % at 90 % (Garipov 2018)."""
        highest = self.settings.rate(self.bends.weights.size)
        steps = self.settings.steps
        warm_up = min(1.0, (self.done + 1) / 20)
        if steps is None:
            return highest * warm_up
        share = self.done / max(steps, 1)
        fall = 1.0 - 0.99 * min(max((share - 0.5) / 0.4, 0.0), 1.0)
        return highest * warm_up * fall


def _optimizer(vectors: Sequence[Tensor], settings: Fitting, parameters: int) -> Optimizer:
    rate = settings.rate(parameters)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(vectors, lr=rate, weight_decay=0.0)
    return torch.optim.SGD(vectors, lr=rate, momentum=0.9, nesterov=True)
