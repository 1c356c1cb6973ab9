"""The way up and back: e = rho T^2 g / ||T g|| (Foret 2021, eq. 2; Kwon 2021, eq. 9).

T is 1, and |w| + eta for adaptive SAM, but for biases 1 there too. Parameter groups may differ in
rho; T is then multiplied by a group's share of the largest. So e is where <g, e> is largest under
Σ_j ||e_j / T_j||^2 <= rho^2, and a group of rho 0 neither moves nor counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Module
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from mergekit_geo.training.settings import SamArguments, check_radius


@dataclass(frozen=True)
class _Part:
    """Parameters that are scaled alike; of sharded ones, this process's shards.

    Attributes:
        weights: And their gradients.
        gradients: As long.
        share: rho over the largest rho.
        eta: Of adaptive SAM; None where T does not depend on the weights.
    """

    weights: list[Tensor]
    gradients: list[Tensor]
    share: float
    eta: float | None

    def stretch(self) -> None:
        """g <- T g."""
        if self.share != 1:
            torch._foreach_mul_(self.gradients, self.share)
        if self.eta is not None:
            scale = torch._foreach_abs(self.weights)
            torch._foreach_add_(scale, self.eta)
            torch._foreach_mul_(self.gradients, scale)


class Ascent:
    """What an optimizer trains, moved uphill and back to the bit.

    Args:
        optimizer: Any of torch; its groups may hold a key `rho`.
        model: Tells by their names which parameters are biases.
        settings: rho where a group has none, and T.

    Raises:
        ArgumentError: A group's rho cannot be meant.
    """

    def __init__(self, optimizer: Optimizer, model: Module, settings: SamArguments) -> None:
        self.optimizer, self.settings = optimizer, settings
        self._biases = {
            parameter
            for name, parameter in model.named_parameters()
            if "bias" in name.rpartition(".")[2]
        }
        self._home: dict[Tensor, Tensor] = {}
        for number, group in enumerate(optimizer.param_groups):
            check_radius(self._rho(group), f"parameter group {number}")

    @property
    def rho(self) -> float:
        """The largest of all groups."""
        return max(self._rho(group) for group in self.optimizer.param_groups)

    @property
    def parameters(self) -> list[Tensor]:
        """All that the optimizer trains."""
        groups = self.optimizer.param_groups
        return [p for group in groups for p in group["params"] if p.requires_grad]

    @torch.no_grad()
    def gradient_norm(self) -> float:
        """||g|| over all processes that share the weights."""
        return _norm([p.grad for p in self.parameters if p.grad is not None])

    @torch.no_grad()
    def slope(self) -> float:
        """||T g||; the gradients become T g."""
        for part in self._parts():
            part.stretch()
        moved = [p for group in self._moved_groups() for p in group["params"]]
        return _norm([p.grad for p in moved if p.grad is not None])

    @contextmanager
    def climbed(self, slope: float) -> Iterator[None]:
        """The weights at w + e, without gradients, and back to the bit.

        Args:
            slope: ||T g|| of the gradients, which are T g.
        """
        self._keep()
        try:
            self._climb(slope)
            self.clear()
            torch.clear_autocast_cache()  # it may hold low-precision copies of the weights
            yield
        finally:
            self._return()
            torch.clear_autocast_cache()

    def clear(self) -> None:
        """Let go of the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def spoil(self) -> None:
        """Make the gradients what no optimizer may use, so that an fp16 scaler skips them."""
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad.fill_(torch.nan)
