"""Sharing work among processes, by accelerate and torch.distributed (under torchrun)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from mergekit_geo.errors import ArgumentError, GeoError

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item")
ALONE = Event()
"""Set while this process works by itself, though others were launched with it."""


def world() -> tuple[int, int]:
    """This process's rank, and how many work together; (0, 1) outside torchrun and accelerate."""
    return (0, 1) if ALONE.is_set() else _launched()


def _launched() -> tuple[int, int]:
    found: tuple[int, int] = (0, 1) if launched() == 1 else _collectives().rank_and_count()
    return found


def _collectives() -> ModuleType:
    """What several processes do together: it loads torch, which one process need not."""
    from mergekit_geo import collectives

    return collectives


def launched() -> int:
    """How many processes were launched together, as torchrun and accelerate tell each of them.

    Raises:
        ArgumentError: What they should have set is missing, or no number.
    """
    count = _told("WORLD_SIZE", 1, default="1")
    if count > 1:
        _told("RANK", 0, below=count)
        _told("LOCAL_RANK", 0, below=count)
        _told("MASTER_PORT", 1)
    return count


def _told(name: str, least: int, *, below: int = 1 << 31, default: str | None = None) -> int:
    found = os.environ.get(name, default)
    if found is None or not re.fullmatch(r"[0-9]{1,10}", found) or not least <= int(found) < below:
        said = "is missing" if found is None else f"is {found!r}"
        raise ArgumentError(
            f"the environment variable {name} {said}; expected a whole number from {least} on",
            remedy="torchrun sets it for its processes; `unset WORLD_SIZE` to work in one",
        )
    return int(found)


def is_main_process() -> bool:
    """Whether this process is the one that writes and prints."""
    return world()[0] == 0


def local_device(device: str) -> str:
    """The device of this process: with several on one machine, each has an accelerator."""
    if device == "cuda" and _launched()[1] > 1:
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return device


def gather(items: list[Item]) -> list[Item]:
    """The items of all processes, by rank."""
    found: list[Item] = items if world()[1] == 1 else _collectives().gathered(items)
    return found


def all_reduce(tensor: Tensor) -> Tensor:
    """The sum over all processes, on each of them; in place where it can be."""
    total: Tensor = tensor if world()[1] == 1 else _collectives().summed(tensor)
    return total


def broadcast(item: Item) -> Item:
    """What the first process has, in all of them."""
    return gather([item])[0]


def main_process_first(work: Callable[[], Item]) -> Item:
    """What the first process's work gives, in all of them; the others wait.

    Raises:
        GeoError: What the work raised, in all of them.
    """
    result: Item = _given(broadcast(_tried(work) if is_main_process() else (None, None)))
    return result


def main_process_only(work: Callable[[], Item]) -> Item:
    """Run work in the first process only and broadcast the result; collectives inside are local.

    The others wait as long as it takes.

    Raises:
        GeoError: What the work raised, in all of them.
    """
    if world()[1] == 1:
        return work()
    with _collectives().waiting() as found:
        if is_main_process():
            with _alone():
                found[0] = _tried(work)
    result: Item = _given(found[0])
    return result


def _tried(work: Callable[[], Item]) -> tuple[Item | None, GeoError | None]:
    """What work gives, or what it raises."""
    try:
        return work(), None
    except GeoError as error:
        return None, error


def _given(found: tuple[Any, GeoError | None]) -> Any:
    result, problem = found
    if problem is not None:
        raise problem
    return result


@contextmanager
def _alone() -> Iterator[None]:
    ALONE.set()
    try:
        yield
    finally:
        ALONE.clear()
