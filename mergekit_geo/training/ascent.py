"""The way up and back: e = rho T^2 g / ||T g|| (Foret 2021, eq. 2; Kwon 2021, eq. 9).

T is 1, and |w| + eta for adaptive SAM, but for biases 1 there too. Parameter groups may differ in
rho; T is then multiplied by a group's share of the largest. So e is where <g, e> is largest under
Σ_j ||e_j / T_j||^2 <= rho^2, and a group of rho 0 neither moves nor counts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Module
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from mergekit_geo.config.training import SamArguments, check_radius

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
        self._all = list(dict.fromkeys([*model.parameters(), *self.parameters]))
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
        return _norm(self._all)

    @torch.no_grad()
    def slope(self) -> float:
        """||T g||; the gradients become T g."""
        parts = self._parts()
        for part in parts:
            part.stretch()
        return _norm(p for part in parts for p in part.parameters)

    @contextmanager
    def climbed(self, slope: float) -> Iterator[None]:
        """Context with the weights at w + e, without gradients; restores them to the bit.

        Args:
            slope: ||T g|| of the gradients, which are T g.
        """
        moved = [parameter for part in self._parts() for parameter in part.parameters]
        self._keep(moved)
        try:
            self._climb(slope)
            yield
        finally:
            self._return(moved)

    def clear(self) -> None:
        """Clear all gradients, also of parameters that another optimizer trains."""
        for parameter in self._all:
            parameter.grad = None

    def spoil(self) -> None:
        """Make the gradients NaN, so that an fp16 scaler makes no step and scales less."""
        for parameter in self._all:
            if parameter.grad is not None:
                parameter.grad.fill_(math.nan)

    def _rho(self, group: dict[str, Any]) -> float:
        return float(group.get("rho", self.settings.rho))

    def _parts(self) -> list[_Part]:
        """What moves, sorted by how it is scaled."""
        largest, parts = self.rho, defaultdict(list)
        for group in self.optimizer.param_groups:
            share = self._rho(group) / largest
            for parameter in group["params"] if share else ():
                if parameter.grad is not None:
                    adaptive = self.settings.adaptive and parameter not in self._biases
                    parts[share, adaptive].append(parameter)
        eta = self.settings.eta
        return [_Part(of, share, eta if on else None) for (share, on), of in parts.items()]

    @torch.no_grad()
    def _keep(self, moved: list[Tensor]) -> None:
        """Copy weights to memory that stays for the next ascent."""
        for parameter in moved:
            if parameter not in self._home:
                self._home[parameter] = torch.empty_like(_local(parameter))
        torch._foreach_copy_([self._home[p] for p in moved], _locals(moved))

    @torch.no_grad()
    def _climb(self, slope: float) -> None:
        """Move the weights to w + rho T (T g) / ||T g||, overwriting the gradients."""
        step = self.rho / max(slope, FLATTEST)
        for part in self._parts():
            part.stretch()
            torch._foreach_add_(_locals(part.parameters), part.gradients, alpha=step)
        self.clear()
        torch.clear_autocast_cache()  # it may hold the weights of before in low precision

    @torch.no_grad()
    def _return(self, moved: list[Tensor]) -> None:
        torch._foreach_copy_(_locals(moved), [self._home[p] for p in moved])
        torch.clear_autocast_cache()


@dataclass(frozen=True)
class _Part:
    """Parameters that are scaled alike.

    Attributes:
        parameters: With gradients.
        share: Their rho over the largest one.
        eta: Of adaptive SAM; None where T does not depend on the weights.
    """

    parameters: list[Tensor]
    share: float
    eta: float | None

    @property
    def gradients(self) -> list[Tensor]:
        """Local gradients of all parameters that have one."""
        return _locals(p.grad for p in self.parameters if p.grad is not None)

    def stretch(self) -> None:
        """Scale the gradients from g to T g."""
        if self.share != 1:
            torch._foreach_mul_(self.gradients, self.share)
        if self.eta is not None:
            scale = torch._foreach_abs(_locals(self.parameters))
            torch._foreach_add_(scale, self.eta)
            torch._foreach_mul_(self.gradients, scale)


def _locals(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [_local(tensor) for tensor in tensors]


def _local(tensor: Tensor) -> Tensor:
    """The local shard of a tensor: foreach operations do not take DTensors."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def _norm(parameters: Iterable[Tensor]) -> float:
    """Norm of the parameters' gradients, which may be sharded over different meshes."""
    meshes: dict[object, list[Tensor]] = defaultdict(list)
    for gradient in (p.grad for p in parameters if p.grad is not None):
        meshes[getattr(gradient, "device_mesh", None)].append(gradient)
    norms = [get_total_norm(gradients) for gradients in meshes.values()]
    return math.hypot(*(float(n.full_tensor() if isinstance(n, DTensor) else n) for n in norms))
