"""The way to w + e and back: e = rho T^2 g / ||T g|| (Foret 2021, eq. 2; Kwon 2021, eq. 9).

T is 1, and |w| + eta for adaptive SAM, but for biases 1 there too. Parameter groups may differ in
rho; T is then multiplied by a group's share of the largest. So e is where <g, e> is largest under
Σ_j ||e_j / T_j||^2 <= rho^2, and a group of rho 0 neither moves nor counts.

Momentum-SAM has e = -rho T^2 m / ||T m|| with the optimizer's momentum m instead: along the coming
step, as Nesterov looks ahead, but so far as rho says (Becker 2024, algorithm 1).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from mergekit_geo.config.training import SamArguments, check_radius
from mergekit_geo.training.momentum import momentum_of
from mergekit_geo.training.sharded import local, local_all, norm

_Pair = tuple[Tensor, Tensor]

FLATTEST = 1e-30
"""Below this slope e is shorter than rho, and 0 where the gradient is."""


class Ascent:
    """What an optimizer trains, moved uphill and back to the bit.

    Args:
        optimizer: Any of torch; its groups may hold a key `rho`.
        model: Its names tell which parameters are biases.
        settings: rho where a group has none, and T.

    Raises:
        ArgumentError: A group's rho is not valid.
    """

    def __init__(self, optimizer: Optimizer, model: Module, settings: SamArguments) -> None:
        self.optimizer, self.settings = optimizer, settings
        self._biases = {
            parameter
            for name, parameter in model.named_parameters()
            if "bias" in name.rpartition(".")[2]
        }
        self.all = list(dict.fromkeys([*model.parameters(), *self.parameters]))
        self._home: dict[Tensor, Tensor] = {}
        for number, group in enumerate(optimizer.param_groups):
            check_radius(self._rho(group), f"parameter group {number}")

    @property
    def rho(self) -> float:
        """The largest rho of all parameter groups."""
        return max(map(self._rho, self.optimizer.param_groups))

    @property
    def parameters(self) -> list[Tensor]:
        """All parameters that the optimizer trains."""
        groups = self.optimizer.param_groups
        return [p for group in groups for p in group["params"] if p.requires_grad]

    def norm(self) -> float:
        """||g|| of the whole model."""
        return norm(p.grad for p in self.all if p.grad is not None)

    def slope(self) -> float:
        """||T g||; the gradients become T g."""
        return _stretched(self._parts(_gradient))

    @contextmanager
    def climbed(self, slope: float) -> Iterator[None]:
        """Context with the weights at w + e, without gradients; restores them to the bit.

        Args:
            slope: ||T g|| of the gradients, which are T g.
        """
        with self._moved(self._parts(_gradient), self.rho / max(slope, FLATTEST)):
            self.clear()
            yield

    @contextmanager
    def ahead(self) -> Iterator[bool]:
        """Context with the weights at w - rho T^2 m / ||T m||; restores them to the bit.

        It is given whether they moved: before the first step there is no momentum m.
        """
        parts = [part.copied() for part in self._parts(partial(momentum_of, self.optimizer))]
        if not parts:
            yield False
            return
        length = _stretched(parts)
        with self._moved(parts, -self.rho / max(length, FLATTEST)):
            yield length > 0

    def clear(self) -> None:
        """Clear all gradients, also of parameters that another optimizer trains."""
        for parameter in self.all:
            parameter.grad = None

    def spoil(self) -> None:
        """Make the gradients NaN, so that an fp16 scaler makes no step and scales less."""
        for parameter in self.all:
            if parameter.grad is not None:
                parameter.grad.fill_(math.nan)

    def _rho(self, group: dict[str, Any]) -> float:
        return float(group.get("rho", self.settings.rho))

    def _parts(self, vector_of: Callable[[Tensor], Tensor | None]) -> list[_Part]:
        """What moves, sorted by how it is scaled, with the vectors along which it does."""
        largest, found = self.rho, defaultdict[tuple[float, bool], list[_Pair]](list)
        for group in self.optimizer.param_groups:
            share = self._rho(group) / largest
            for parameter in group["params"] if share else ():
                if (vector := vector_of(parameter)) is not None:
                    adaptive = self.settings.adaptive and parameter not in self._biases
                    found[share, adaptive].append((parameter, vector))
        eta = self.settings.eta
        return [
            _Part([p for p, _ in own], [v for _, v in own], share, eta if on else None)
            for (share, on), own in found.items()
        ]

    @contextmanager
    def _moved(self, parts: list[_Part], step: float) -> Iterator[None]:
        """Context with the weights at w + step T v, v the parts' vectors, which are given up."""
        moved = [parameter for part in parts for parameter in part.parameters]
        self._keep(moved)
        try:
            self._move(parts, step)
            parts.clear()  # of the gradients, whose memory the pass needs
            yield
        finally:
            self._return(moved)

    @torch.no_grad()
    def _keep(self, moved: list[Tensor]) -> None:
        """Copy weights to memory that stays for the next ascent."""
        for parameter in moved:
            if parameter not in self._home:
                self._home[parameter] = torch.empty_like(local(parameter))
        torch._foreach_copy_([self._home[p] for p in moved], local_all(moved))

    @torch.no_grad()
    def _move(self, parts: Sequence[_Part], step: float) -> None:
        for part in parts:
            part.stretch()
            torch._foreach_add_(local_all(part.parameters), local_all(part.vectors), alpha=step)
        torch.clear_autocast_cache()  # it may hold the weights of before in low precision

    @torch.no_grad()
    def _return(self, moved: list[Tensor]) -> None:
        torch._foreach_copy_(local_all(moved), [self._home[p] for p in moved])
        torch.clear_autocast_cache()


@dataclass(frozen=True)
class _Part:
    """Parameters that are scaled alike.

    Attributes:
        parameters: That have a vector.
        vectors: Gradients, or momentum, of their shapes.
        share: Their rho over the largest one.
        eta: Of adaptive SAM; None where T does not depend on the weights.
    """

    parameters: list[Tensor]
    vectors: list[Tensor]
    share: float
    eta: float | None

    def copied(self) -> _Part:
        """Vectors that may be overwritten: themselves where T is 1."""
        if self.share == 1 and self.eta is None:
            return self
        return replace(self, vectors=[vector.clone() for vector in self.vectors])

    def stretch(self) -> None:
        """Scale the vectors from v to T v."""
        if self.share != 1:
            torch._foreach_mul_(local_all(self.vectors), self.share)
        if self.eta is not None:
            scale = torch._foreach_abs(local_all(self.parameters))
            torch._foreach_add_(scale, self.eta)
            torch._foreach_mul_(local_all(self.vectors), scale)


@torch.no_grad()
def _stretched(parts: Sequence[_Part]) -> float:
    """||T v|| over all parts, whose vectors become T v."""
    for part in parts:
        part.stretch()
    return norm(vector for part in parts for vector in part.vectors)


def _gradient(parameter: Tensor) -> Tensor | None:
    return parameter.grad
