"""Merging a whole blend: tensors shared out among threads, largest first."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.chunk_writer import Sink
from mergekit_geo.merging.kernels import Kernel
from mergekit_geo.merging.memo import Memo
from mergekit_geo.merging.native import kernel_for
from mergekit_geo.merging.tensor import TensorMerger
from mergekit_geo.merging.tensor_record import TensorRecord
from mergekit_geo.merging.whole import check_memory

HELD_BYTES = 1 << 28
"""Memory of all threads for tensors that are passed over more than once."""

TICK = 0.1
"""Seconds between two looks at how far the workers are."""


def stream(
    blend: Blend,
    sink: Sink,
    *,
    skip: Collection[str] = (),
    kernel: Kernel | None = None,
    allow_nonfinite: bool = False,
    finished: Callable[[str, TensorRecord], None] = lambda name, record: None,
    advance: Callable[[int], None] = lambda count: None,
    workers: int | None = None,
    memo: Memo | None = None,
) -> dict[str, TensorRecord]:
    """Merge every tensor of a blend into a sink, in memory that does not grow with the model.

    The result does not depend on the number of workers.

    Args:
        blend: Anchors and rule.
        sink: Where merged elements go; called from several threads, never twice for one place.
        skip: Tensors that are there already.
        kernel: Does the arithmetic; the fastest on the CPU by default.
        allow_nonfinite: Go on over NaN and infinity.
        finished: Called with each tensor that is whole, from the calling thread.
        advance: Called with the number of elements done since the last call, likewise.
        workers: Threads; by default as many as the kernel keeps busy.
        memo: What merges of the same anchors found; what this one finds is kept there.

    Returns:
        What was done, per tensor in the order of the outputs, without the skipped ones.

    Raises:
        NonFiniteError: An anchor holds NaN or infinity.
        AntipodalError: The rule has no answer for some tensor.
        DataError: A tensor is merged whole and does not fit into memory.
    """
    names = [name for name in blend.outputs() if name not in skip]
    names.sort(key=lambda name: -blend.first(name).count)
    kernel = kernel or kernel_for("cpu")
    check_memory(blend, kernel.device)
    memo = memo or Memo()
    memo.begin()
    team = _Team(blend, sink, kernel, names, allow_nonfinite=allow_nonfinite, memo=memo)
    records: dict[str, TensorRecord] = {}
    with team.at_work(workers or kernel.workers):
        while len(records) < len(names):
            for name, record in team.news():
                records[name] = record
                finished(name, record)
            advance(team.progress())
    return {name: records[name] for name in blend.outputs() if name in records}


class _Team:
    """Threads that take names from one queue and put what became of them on another."""

    def __init__(
        self,
        blend: Blend,
        sink: Sink,
        kernel: Kernel,
        names: list[str],
        *,
        allow_nonfinite: bool,
        memo: Memo,
    ) -> None:
        self.blend, self.sink, self.kernel, self.memo = blend, sink, kernel, memo
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

        The calling thread sleeps in between: waking for every chunk would take the interpreter's
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
        merger = TensorMerger(
            self.blend,
            self.sink,
            self.kernel,
            partial(self._advance, index),
            allow_nonfinite=self.allow_nonfinite,
            room=HELD_BYTES // len(self.counts),
            memo=self.memo,
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
