"""Sums over lists of tensors, of which some may be sharded (FSDP2), each over a mesh of its own."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm


def local(tensor: Tensor) -> Tensor:
    """The local shard of a tensor: foreach operations do not take DTensors."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def local_all(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The local shards of tensors."""
    return [local(tensor) for tensor in tensors]


def whole(tensor: Tensor) -> Tensor:
    """The tensor of all shards; every process has to call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def norm(tensors: Iterable[Tensor]) -> float:
    """Norm of all elements together.

    Example:
        >>> norm([torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])])
        5.0
    """
    meshes: dict[object, list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        meshes[getattr(tensor, "device_mesh", None)].append(tensor)
    return math.hypot(*(float(whole(get_total_norm(found))) for found in meshes.values()))


@torch.no_grad()
def inner(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Inner product of two lists of tensors of equal shapes and placements.

    Example:
        >>> inner([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 4.0])])
        11.0
    """
    meshes: dict[object, list[Tensor]] = defaultdict(list)
    for a, b in zip(first, second, strict=True):
        meshes[getattr(a, "device_mesh", a.device)].append((a * b).sum())
    return math.fsum(float(whole(sum(found[1:], found[0]))) for found in meshes.values())
