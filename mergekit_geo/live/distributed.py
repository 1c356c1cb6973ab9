"""Sharing work among processes, by accelerate and torch.distributed (under torchrun)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from mergekit_geo.errors import GeoError

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item")


def world() -> tuple[int, int]:
    """This process's rank, and how many there are; (0, 1) outside torchrun and accelerate."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    return state.process_index, state.num_processes


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return world()[0] == 0


def local_device(device: str) -> str:
    """The device of this process: with several on one machine, each has an accelerator."""
    if device == "cuda" and world()[1] > 1:
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return device


def gathered(items: list[Item]) -> list[Item]:
    """The items of all processes, by rank."""
    if world()[1] == 1:
        return items
    from accelerate.utils import gather_object

    found: list[Item] = gather_object(items)
    return found


def summed(tensor: Tensor) -> Tensor:
    """The sum over all processes, on each of them; in place where it can be."""
    if world()[1] == 1:
        return tensor
    from accelerate import PartialState
    from accelerate.utils import reduce

    total: Tensor = reduce(tensor.to(PartialState().device), "sum")
    return total.to(tensor.device)


def agreed(item: Item) -> Item:
    """What the first process has, in all of them."""
    return gathered([item])[0]


def by_first(work: Callable[[], Item]) -> Item:
    """What the first process's work gives, in all of them; the others wait.

    Raises:
        GeoError: What the work raised, in all of them.
    """
    found: list[Any] = []
    problem: GeoError | None = None
    if is_first():
        try:
            found = [work()]
        except GeoError as error:
            problem = error
    found, problem = agreed((found, problem))
    if problem is not None:
        raise problem
    result: Item = found[0]
    return result
