"""Workers that measure trials side by side: what is common to those here and those of a cluster.

A worker holds models in a process, here or elsewhere. One that is lost takes its trial along and
is replaced; a trial is handed to a process whose models are open, so none is lost before that.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from mergekit_geo.errors import GeoError
from mergekit_geo.searches.engine import Engine, lost
from mergekit_geo.searches.trial import Outcome, Trial

READY = "ready"
"""What a process says once, when its models are open."""
TRIES = 3
"""Processes of a worker that may be lost one after the other before their models are open."""

Message = Outcome | GeoError | str
"""What a process says: `READY`, or why models cannot be opened, or what came of a trial."""


class MeasuringProcess(Protocol):
    """A process that measures trials, one after the other."""

    @property
    def trial(self) -> Trial | None:
        """What it measures; None while it waits for a trial."""

    @property
    def is_ready(self) -> bool:
        """Whether its models are open."""

    def measure(self, trial: Trial) -> bool:
        """Give it a trial; false where it is known to be lost, and the trial is not."""

    def heard(self) -> Message | None:
        """What it says next, where it says something; None where it is lost."""

    def how_it_was_lost(self) -> str:
        """How it was lost, in words."""

    def end(self) -> None:
        """End it, without its trial; `join` waits until it has ended."""

    def join(self) -> None:
        """Wait until it has ended."""


Kind = TypeVar("Kind", bound=MeasuringProcess)


class Worker(Generic[Kind]):
    """One of several workers: a process, and the next one where that is lost.

    Args:
        start: Starts a process.

    Attributes:
        process: The present one.
        tries: Measurers that were started since one was ready.
        has_worked: Whether one was ever ready.
    """

    def __init__(self, start: Callable[[], Kind]) -> None:
        self._start = start
        self.has_worked = False
        self.tries = 1
        self.process = start()

    @property
    def is_free(self) -> bool:
        """Whether it waits for a trial."""
        return self.process.is_ready and self.process.trial is None

    def note_ready(self) -> None:
        """Note that models are open."""
        self.has_worked, self.tries = True, 0

    def replace(self) -> None:
        """Start another process in the place of one that was lost."""
        self.end()
        self.tries += 1
        self.process = self._start()

    def end(self) -> None:
        """End its process."""
        self.process.end()
        self.process.join()


class Workers(Engine, Generic[Kind]):
    """An engine of several workers."""

    def __init__(self) -> None:
        self._waiting: deque[Trial] = deque()
        self._workers: list[Worker[Kind]] = []

    def start(self, starts: Iterable[Callable[[], Kind]]) -> None:
        """Start workers.

        Args:
            starts: What starts the processes of each.
        """
        for start in starts:
            self._workers.append(Worker(start))

    @property
    def slots(self) -> int:
        """Workers that are left."""
        return len(self._workers)

    def submit(self, trial: Trial) -> None:
        """Take a trial; the next worker that is free measures it."""
        self._waiting.append(trial)
        self._hand_out()

    def finished(self, wait: float) -> list[Outcome]:
        """Trials that have ended, or were lost with who measured them.

        Raises:
            GeoError: Models cannot be opened.
        """
        until = time.monotonic() + wait
        while True:
            found = self._heard(max(until - time.monotonic(), 0.0))
            self._hand_out()
            if found or time.monotonic() >= until:
                return found

    def close(self) -> None:
        """End all workers."""
        self._waiting.clear()
        processes = [worker.process for worker in self._workers]
        self._workers = []
        for process in processes:
            process.end()
        for process in processes:
            process.join()

    @abstractmethod
    def speaking(self, workers: Sequence[Worker[Kind]], seconds: float) -> list[Worker[Kind]]:
        """Workers whose processes say something, or were lost.

        Args:
            workers: All of them.
            seconds: How long to wait for the first one.
        """

    @abstractmethod
    def cannot_open(self, how: str) -> GeoError:
        """The error where processes are lost before their models are open.

        Args:
            how: How the last one was lost.
        """

    def _hand_out(self) -> None:
        free = [worker.process for worker in self._workers if worker.is_free]
        for process in free[: len(self._waiting)]:
            if process.measure(self._waiting[0]):
                self._waiting.popleft()

    def _heard(self, seconds: float) -> list[Outcome]:
        """What is told within some seconds, or as soon as one tells anything."""
        found = [self._told(worker) for worker in self.speaking(self._workers, seconds)]
        return [outcome for outcome in found if outcome is not None]

    def _told(self, worker: Worker[Kind]) -> Outcome | None:
        """The outcome that a worker tells of, or that its loss is."""
        trial, said = worker.process.trial, worker.process.heard()
        if isinstance(said, Outcome):
            return said
        if isinstance(said, GeoError):
            self._retire(worker, said)
        elif said is None:
            return self._lost(worker, trial)
        else:
            worker.note_ready()
        return None

    def _lost(self, worker: Worker[Kind], trial: Trial | None) -> Outcome | None:
        how = worker.process.how_it_was_lost()
        if worker.tries >= TRIES:
            self._retire(worker, self.cannot_open(how))
        else:
            worker.replace()
        return lost(trial, how) if trial else None

    def _retire(self, worker: Worker[Kind], why: GeoError) -> None:
        """Go on without a worker that has worked, and whose models can no longer be opened."""
        others = [other for other in self._workers if other is not worker]
        if not (worker.has_worked and others):
            raise why
        self._workers = others
        worker.end()
