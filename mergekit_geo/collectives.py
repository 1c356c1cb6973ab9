"""Collectives of accelerate and torch.distributed: what several processes do together.

Loads torch. `processes` comes here only where there is more than one process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import gather_object, reduce
from torch import Tensor

Item = TypeVar("Item")
PATIENCE = timedelta(days=30)
"""A merge may take longer than the timeout of a training's own exchanges."""


def rank_and_count() -> tuple[int, int]:
    """This process's rank, and how many were launched together."""
    state = PartialState(cpu=not torch.cuda.is_available())
    return state.process_index, state.num_processes


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
