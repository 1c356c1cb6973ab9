"""The processes that train together: whose gradient is climbed, when gradients are exchanged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel

from mergekit_geo.config.training import AUTO, PER_REPLICA, SYNCHRONISED
from mergekit_geo.errors import ArgumentError
from mergekit_geo.processes import launched


def mode_of(model: Module, asked: str) -> str:
    """The ascent in force: `per-replica` or `synchronised`.

    Args:
        model: As it is called in training: what DistributedDataParallel, `fully_shard` or
            accelerate's `prepare` returned.
        asked: Or `auto`.

    Raises:
        ArgumentError: The model is not wrapped though there are several processes, or should climb
            per replica and cannot.
    """
    inner, started = _inner(model), max(world(), launched())
    sharded = any(isinstance(parameter, DTensor) for parameter in model.parameters())
    if started > 1 and not sharded and not isinstance(inner, DistributedDataParallel):
        raise ArgumentError(
            f"{started} processes train, but the model is a bare {type(model).__name__}: expected "
            "what DistributedDataParallel or fully_shard returned",
            remedy="SAM of what accelerator.prepare returned; without a GPU accelerate needs to be "
            "told, by Accelerator(cpu=True) or TrainingArguments(use_cpu=True)",
        )
    obstacle = _obstacle(inner, sharded)
    if obstacle and asked == PER_REPLICA:
        raise ArgumentError(
            f"ascent per replica: {obstacle}", remedy=f"ascent={SYNCHRONISED!r}, or 'auto'"
        )
    if asked != AUTO:
        return asked
    return SYNCHRONISED if obstacle else PER_REPLICA


def _obstacle(inner: Module, sharded: bool) -> str:
    """Why no process can have a gradient of its own; empty if it can."""
    if sharded:
        return "sharded weights (FSDP2) leave no process a gradient of its own"
    if getattr(inner, "static_graph", False):
        return "DDP with static_graph exchanges gradients from the first pass on"
    return ""


def world() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Rank of this process among them."""
    return dist.get_rank() if world() > 1 else 0


@contextmanager
def unexchanged(model: Module) -> Iterator[None]:
    """Forward and backward passes whose gradients stay on their process until later ones go out."""
    inner = _inner(model)
    if isinstance(inner, DistributedDataParallel):
        with inner.no_sync():
            yield
        return
    sharded = [layer for layer in inner.modules() if isinstance(layer, FSDPModule)]
    try:
        _exchange(sharded, False)
        yield
    finally:
        _exchange(sharded, True)


def group_of(model: Module) -> dist.ProcessGroup | None:
    """The processes that hold a replica of a model each; None for all."""
    inner = _inner(model)
    return inner.process_group if isinstance(inner, DistributedDataParallel) else None


def all_agree(here: bool, device: torch.device) -> bool:
    """Whether a condition holds on every process."""
    if world() == 1:
        return here
    said = torch.tensor(float(here), device=device)
    dist.all_reduce(said, dist.ReduceOp.MIN)
    return bool(said)


def _inner(model: Module) -> Module:
    """The module inside torch.compile's wrapper."""
    found: Module = getattr(model, "_orig_mod", model)
    return found


def _exchange(sharded: Sequence[FSDPModule], on: bool) -> None:
    for layer in sharded:
        layer.set_requires_gradient_sync(on, recurse=False)
