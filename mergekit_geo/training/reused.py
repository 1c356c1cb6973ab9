"""The part of SAM's gradient that steps in between use again (LookSAM, Liu 2022, algorithm 1).

At a step that climbs, with g the gradient at the weights and g_s that at w + e, the part of g_s
orthogonal to g is kept: g_v = g_s - <g, g_s> / ||g||^2 g. The steps in between, which make one
pass, go by g + alpha ||g|| / ||g_v|| g_v. All are of the whole model, as in the paper, and do not
depend on the scale of a scaler.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn import Module

from mergekit_geo.errors import ArgumentError
from mergekit_geo.training.replicas import group_of, world
from mergekit_geo.training.sharded import inner, local, local_all, norm, whole

RESOLVED = 1e-5
"""Below this share of g_s, g_v is rounding, and steps in between are plain ones."""


class Reused:
    """What is kept between two steps that climb: one copy of the trained weights' size.

    Args:
        parameters: All that are trained; none where nothing is to be used again.
        alpha: Length of what is added, in units of the gradient's.
    """

    def __init__(self, parameters: Iterable[Tensor], alpha: float) -> None:
        self.alpha, self._parameters = alpha, [p for p in parameters if p.requires_grad]
        self._kept: list[Tensor] = []
        self._length: float | None = None

    @property
    def is_missing(self) -> bool:
        """Whether there is nothing to use again, and should be: the next step climbs."""
        return bool(self._parameters) and self._length is None

    @torch.no_grad()
    def note(self, model: Module, *, exchange: bool) -> None:
        """Keep the gradients g, until those at w + e are there.

        Args:
            model: As it is called in training.
            exchange: Whether each process has its own: what is kept is their mean.
        """
        self._length = None
        self._kept = self._kept or [torch.zeros_like(p) for p in self._parameters]
        for kept, parameter in zip(self._kept, self._parameters, strict=True):
            if parameter.grad is None:
                local(kept).zero_()
            else:
                local(kept).copy_(local(parameter.grad))
        if self._kept and exchange and world() > 1:
            _average(local_all(self._kept), model)

    @torch.no_grad()
    def split(self) -> None:
        """Replace g by the part of the gradients, which are g_s, that is orthogonal to it."""
        if not self._kept:
            return
        graded = [number for number, p in enumerate(self._parameters) if p.grad is not None]
        plain = [self._kept[number] for number in graded]
        steep = [g for g in (self._parameters[number].grad for number in graded) if g is not None]
        square, length = norm(self._kept) ** 2, norm(steep)
        share = inner(plain, steep) / square if square else 0.0
        torch._foreach_mul_(local_all(self._kept), -share)
        torch._foreach_add_(local_all(plain), local_all(steep))
        self._settle(length)

    @torch.no_grad()
    def add(self, length: float) -> None:
        """Add alpha ||g|| / ||g_v|| g_v to the gradients g, if there is any.

        Args:
            length: ||g||.
        """
        if not self._length:
            return
        pairs = zip(self._parameters, self._kept, strict=True)
        found = [(p.grad, kept) for p, kept in pairs if p.grad is not None]
        torch._foreach_add_(
            local_all(gradient for gradient, _ in found),
            local_all(kept for _, kept in found),
            alpha=self.alpha * length / self._length,
        )

    def state(self) -> list[Tensor]:
        """g_v on the CPU, whole; empty where there is none. Every process has to call it."""
        return [whole(kept).cpu() for kept in self._kept if self._length is not None]

    def load(self, state: Sequence[Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ArgumentError: It is of another model.
        """
        self._length = None
        if not state or not self._parameters:
            return
        shapes = [tuple(p.shape) for p in self._parameters]
        found = [tuple(tensor.shape) for tensor in state]
        if shapes != found:
            raise ArgumentError(
                f"LookSAM's state is of {len(found)} tensors, and this model trains {len(shapes)}, "
                "or of other shapes",
                remedy="go on with the model that the state was saved of",
            )
        self._kept = [_like(*pair) for pair in zip(state, self._parameters, strict=True)]
        self._settle(0.0)

    def _settle(self, steep: float) -> None:
        self._length = norm(self._kept)
        if self._length <= RESOLVED * steep:
            self._length = 0.0
            torch._foreach_zero_(local_all(self._kept))


def _average(tensors: Sequence[Tensor], model: Module) -> None:
    """Replace tensors by their mean over all replicas."""
    group = group_of(model)
    for sent in [dist.all_reduce(tensor, group=group, async_op=True) for tensor in tensors]:
        sent.wait()
    torch._foreach_div_(list(tensors), dist.get_world_size(group))


def _like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A copy where a parameter is, sharded as that is."""
    there = tensor.to(parameter.device, parameter.dtype, copy=True)
    if isinstance(parameter, DTensor):
        return distribute_tensor(there, parameter.device_mesh, parameter.placements)
    return there
