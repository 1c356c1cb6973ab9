"""Merging a whole blend: tensors shared out among threads, largest first."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import torch
from torch import Tensor

from mergekit_geo.checkpoints.staging import TORCH_DTYPES
from mergekit_geo.errors import ArgumentError
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.tensor import Sink, TensorMerger, TensorRecord

MOST_WORKERS = 16
TICK = 0.1
"""Seconds between two looks at how far the workers are."""


class MemorySink:
    """Keeps the merged tensors in `state`.

    Args:
        blend: What will be written.
    """

    def __init__(self, blend: Blend) -> None:
        self.state: dict[str, Tensor] = {
            name: torch.empty(info.shape, dtype=TORCH_DTYPES[info.dtype])
            for name, info in blend.outputs().items()
        }

    def write(self, name: str, start: int, values: Tensor) -> None:
        """Store `values` as the elements from `start` on of the flattened tensor."""
        self.state[name].view(-1)[start : start + values.numel()] = values


def stream(
    blend: Blend,
    sink: Sink,
    *,
    skip: Collection[str] = (),
    device: str = "cpu",
    allow_nonfinite: bool = False,
    finished: Callable[[str, TensorRecord], None] = lambda name, record: None,
    advance: Callable[[int], None] = lambda count: None,
    workers: int | None = None,
) -> dict[str, TensorRecord]:
    """Merge every tensor of a blend into a sink, in memory that does not grow with the model.

    The result does not depend on the number of workers.

    Args:
        blend: Anchors and rule.
        sink: Where merged elements go; called from several threads, never twice for one place.
        skip: Tensors that are there already.
        device: Where the arithmetic happens.
        allow_nonfinite: Go on over NaN and infinity.
        finished: Called with each tensor that is whole, from the calling thread.
        advance: Called with the number of elements done since the last call, likewise.
        workers: Threads; by default one per core this process may use.

    Returns:
        What was done, per tensor, without the skipped ones.

    Raises:
        NonFiniteError: An anchor holds NaN or infinity.
        AntipodalError: The rule has no answer for some tensor.
        ArgumentError: No such device.
    """
    names = [name for name in blend.outputs() if name not in skip]
    names.sort(key=lambda name: -blend.donor.tensors[name].count)
    check_device(device)
    team = _Team(blend, sink, names, device, allow_nonfinite)
    records: dict[str, TensorRecord] = {}
    with _one_torch_thread_each(), team.at_work(workers or _core_count()):
        while len(records) < len(names):
            for name, record in team.news():
                records[name] = record
                finished(name, record)
            advance(team.progress())
    return records


class _Team:
    """Threads that take names from one queue and put what became of them on another."""

    def __init__(
        self, blend: Blend, sink: Sink, names: list[str], device: str, allow_nonfinite: bool
    ) -> None:
        self.blend, self.sink, self.device = blend, sink, device
        self.allow_nonfinite = allow_nonfinite
        self.stopped = threading.Event()
        self.todo: queue.SimpleQueue[str] = queue.SimpleQueue()
        for name in names:
            self.todo.put(name)
        self.done: queue.SimpleQueue[tuple[str, TensorRecord] | BaseException] = queue.SimpleQueue()
        self.counts: list[int] = []
        self.told = 0

    @contextmanager
    def at_work(self, workers: int) -> Iterator[None]:
        self.counts = [0] * workers
        threads = [threading.Thread(target=self._work, args=(i,)) for i in range(workers)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stopped.set()
            for thread in threads:
                _join(thread)

    def news(self) -> Iterator[tuple[str, TensorRecord]]:
        """Finished tensors, after a short wait for the first.

        The calling thread sleeps in between: waking for every stretch would take the interpreter's
        lock from the workers.
        """
        with suppress(queue.Empty):
            event = self.done.get(timeout=TICK)
            while True:
                if isinstance(event, BaseException):
                    raise event
                yield event
                event = self.done.get_nowait()

    def progress(self) -> int:
        """Elements done since the last call."""
        before, self.told = self.told, sum(self.counts)
        return self.told - before

    def _work(self, index: int) -> None:
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        merger = TensorMerger(
            self.blend,
            self.sink,
            partial(self._advance, index),
            self.device,
            allow_nonfinite=self.allow_nonfinite,
        )
        try:
            while True:
                name = self.todo.get_nowait()
                self.done.put((name, merger.merge(name)))
        except (queue.Empty, _StoppedError):
            pass
        except BaseException as error:  # handed to the calling thread
            self.done.put(error)

    def _advance(self, index: int, count: int) -> None:
        self.counts[index] += count
        if self.stopped.is_set():
            raise _StoppedError


def _join(thread: threading.Thread) -> None:
    """Wait even through a second Ctrl-C: what the thread writes to is closed afterwards."""
    while thread.is_alive():
        with suppress(KeyboardInterrupt):
            thread.join()


class _StoppedError(Exception):
    """The calling thread wants no more."""


def check_device(device: str) -> None:
    """Refuse a device that torch does not have.

    Raises:
        ArgumentError: No such device here.
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise ArgumentError(
            f"device {device!r} cannot be used: {reason}", remedy="--device cpu"
        ) from error


def _core_count() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, MOST_WORKERS)


@contextmanager
def _one_torch_thread_each() -> Iterator[None]:
    """Workers are the parallelism: torch's own threads would only compete with them."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
