"""Fitting a curve of low loss between two models (Garipov 2018, section 3).

Minimise E_{t ~ U(0, 1)} L(φ(t)) over the bends θ_j. A step writes φ(t) into an ordinary module and
runs an ordinary forward and backward pass; as φ(t) is linear in the bends, with factors c_j(t), the
gradient in a bend is c_j(t) times that in the weights. Of the steps before, a step needs the bends
and the optimizer and nothing else, so a fit that was interrupted goes on to the same result.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from mergekit_geo.config.training import CurveFitConfig
from mergekit_geo.connectivity.curves import Bends
from mergekit_geo.connectivity.point_gradient import PRIME, PointGradient, optimizer_of
from mergekit_geo.geometry.curves import rule_at
from mergekit_geo.modules.blend import InPlace

if TYPE_CHECKING:
    from mergekit_geo.evaluation.batches import Shuffled


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
        self, bends: Bends, live: InPlace, batches: Shuffled, settings: CurveFitConfig, seed: int
    ) -> None:
        self.bends, self.live, self.settings = bends, live, settings
        self.seed, self.done = seed, 0
        self.gradient = PointGradient(live, bends.weights, batches, settings, seed)
        self.optimizer = optimizer_of(bends.vectors, settings, settings.rate(bends.weights.size))

    def step(self) -> float:
        """One step of the optimizer; returns the mean loss of its batches.

        Raises:
            DataError: The loss is not a number; bends and optimizer are as they were.
        """
        t = self.t_of(self.done)
        rule = rule_at(self.bends.curve, t)
        self.bends.put(rule)
        loss = self.gradient.at(t, self.done, self.done)
        self._descend(rule.weights[2:])
        self.done += 1
        return loss

    def release(self) -> None:
        """Release the gradient vector that the module shares."""
        self.gradient.release()

    def t_of(self, step: int) -> float:
        """Where on the curve a step is made: uniform on (0, 1), the same in every process."""
        draw = torch.Generator().manual_seed(self.seed * PRIME + step)
        return float(torch.rand((), generator=draw, dtype=torch.float64))

    @torch.no_grad()
    def _descend(self, weights: tuple[float, ...]) -> None:
        """Set the bends' gradients from the gradient in the weights, and clip them."""
        gradient = self.gradient.vector
        length = math.hypot(*weights) * float(gradient.norm())
        shrink = min(1.0, self.settings.clip / length) if length > 0 else 1.0
        *others, last = self.bends.vectors
        for bend, weight in zip(others, weights, strict=False):
            bend.grad = gradient * (weight * shrink)
        last.grad = gradient.mul_(weights[-1] * shrink)  # no copy: it is not needed again
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
