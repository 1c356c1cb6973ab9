"""Collectives of accelerate and torch.distributed: what several processes do together.

Loads torch. `processes` comes here only where there is more than one process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import gather_object, reduce
from torch import Tensor

from mergekit_geo.errors import ArgumentError

Item = TypeVar("Item")
PATIENCE = timedelta(days=30)
"""A merge may take longer than the timeout of a training's own exchanges."""


def rank_and_count() -> tuple[int, int]:
    """This process's rank, and how many were launched together.

    Raises:
        ArgumentError: More of them run on this machine than it has GPUs.
    """
    if found := torch.cuda.device_count():
        check_gpus(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), found)
    state = PartialState(cpu=not found)
    return state.process_index, state.num_processes


def check_gpus(processes: int, found: int) -> None:
    """Refuse processes that would have to share a GPU: NCCL stops at that.

    Args:
        processes: On this machine.
        found: GPUs that they see.

    Raises:
        ArgumentError: There are too few.
    """
    if processes > found:
        gpus = f"{found} GPU{'s' * (found > 1)}"
        raise ArgumentError(
            f"{processes} processes on this machine, and {gpus}: each needs its own",
            remedy=f"--num-processes {found}; or CUDA_VISIBLE_DEVICES= before the command, "
            "to work on the CPU",
        )


def gathered(items: list[Item]) -> list[Item]:
    """The items of all processes, by rank."""
    found: list[Item] = gather_object(items)
    return found


def summed(tensor: Tensor) -> Tensor:
    """The sum over all processes, on each of them."""
    total: Tensor = reduce(tensor.to(PartialState().device), "sum")
    return total.to(tensor.device)


@contextmanager
def waiting() -> Iterator[list[Any]]:
    """Yield a list of one item for the first process to set; all have it at the end."""
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    found: list[Any] = [None]
    yield found
    dist.broadcast_object_list(found, src=0, group=group)
    dist.destroy_process_group(group)


@contextmanager
def accelerate_kept() -> Iterator[None]:
    """A Trainer begins accelerate's state anew; a script that has one gets its own back."""
    shared = [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]
    before = [dict(state) for state in shared]
    try:
        yield
    finally:
        if before[0]:
            for state, kept in zip(shared, before, strict=True):
                state.clear()
                state.update(kept)
