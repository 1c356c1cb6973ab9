"""Trials measured by processes of this machine, each with a device of its own."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import wait

from mergekit_geo.errors import GeoError
from mergekit_geo.portable import cores
from mergekit_geo.searches.engine import Engine, Open, lost
from mergekit_geo.searches.process import Process, pickled
from mergekit_geo.searches.trial import Outcome, Trial

TRIES = 3
"""Processes of a worker that may end one after the other before their models are open."""


class Worker:
    """One of several workers: a process, and the next one where that is lost.

    Args:
        opening: What opens models, as `pickled` gives it.
        environment: Environment variables of its processes.

    Attributes:
        process: The present one.
        tries: Processes that were started since one was ready.
        has_worked: Whether one was ever ready.
    """

    def __init__(self, opening: bytes, environment: dict[str, str]) -> None:
        self._given = opening, environment
        self.has_worked = False
        self.tries = 1
        self.process = Process(*self._given)

    def is_ready(self) -> None:
        """Note that models are open."""
        self.has_worked, self.tries = True, 0

    def replace(self) -> None:
        """Start another process in the place of one that has ended."""
        self.process.end()
        self.process.join()
        self.tries += 1
        self.process = Process(*self._given)


class Pool(Engine):
    """Measures trials in several processes; one that is lost takes its trial along, no more.

    Args:
        opening: Opens models and data, once in each process.
        workers: How many processes; those of a machine with fewer accelerators share them.

    Raises:
        ArgumentError: What opens models cannot be sent to other processes.

    Attributes:
        slots: How many trials are measured at once.
    """

    def __init__(self, opening: Open, workers: int) -> None:
        sent = pickled(opening)
        self._waiting: deque[Trial] = deque()
        self._workers: list[Worker] = []
        try:
            for environment in environments(workers):
                self._workers.append(Worker(sent, environment))
        except BaseException:
            self.close()
            raise

    @property
    def slots(self) -> int:
        """Workers that are left."""
        return len(self._workers)

    def submit(self, trial: Trial) -> None:
        """Take a trial; the next process that is free measures it."""
        self._waiting.append(trial)
        self._hand_out()

    def finished(self, wait: float) -> list[Outcome]:
        """Trials that have ended, or were lost with their process.

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
        """End all processes."""
        self._waiting.clear()
        processes = [worker.process for worker in self._workers]
        self._workers = []
        for process in processes:
            process.end()
        for process in processes:
            process.join()

    def _hand_out(self) -> None:
        free = [worker.process for worker in self._workers if worker.process.is_free]
        for process in free[: len(self._waiting)]:
            process.measure(self._waiting.popleft())

    def _heard(self, seconds: float) -> list[Outcome]:
        """What processes say within some seconds, or as soon as one says anything."""
        signs = {sign: worker for worker in self._workers for sign in worker.process.signs}
        heard = wait(list(signs), seconds)
        speaking = dict.fromkeys(worker for sign, worker in signs.items() if sign in heard)
        found = [self._told(worker) for worker in speaking]
        return [outcome for outcome in found if outcome is not None]

    def _told(self, worker: Worker) -> Outcome | None:
        """The outcome that a worker tells of, or that its end is."""
        trial, said = worker.process.trial, worker.process.heard()
        if isinstance(said, Outcome):
            return said
        if isinstance(said, GeoError):
            self._retire(worker, said)
        elif said is None:
            return self._ended(worker, trial)
        else:
            worker.is_ready()
        return None

    def _ended(self, worker: Worker, trial: Trial | None) -> Outcome | None:
        how = worker.process.how_it_ended()
        if worker.tries >= TRIES:
            self._retire(worker, _cannot_open(how))
        else:
            worker.replace()
        return lost(trial, how) if trial else None

    def _retire(self, worker: Worker, why: GeoError) -> None:
        """Go on without a worker that has worked, and whose models can no longer be opened."""
        others = [other for other in self._workers if other is not worker]
        if not (worker.has_worked and others):
            raise why
        self._workers = others
        worker.process.end()
        worker.process.join()


def environments(workers: int) -> list[dict[str, str]]:
    """Environment variables of each worker: its share of the cores, and its accelerator.

    Args:
        workers: How many there are.
    """
    threads = os.environ.get("OMP_NUM_THREADS", str(max(cores() // workers, 1)))
    devices = accelerators()
    return [
        {"OMP_NUM_THREADS": threads}
        | ({"CUDA_VISIBLE_DEVICES": devices[i % len(devices)]} if devices else {})
        for i in range(workers)
    ]


def accelerators() -> Sequence[str]:
    """The accelerators of this machine that may be used, as CUDA is told them."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [device.strip() for device in told.split(",") if device.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def _cannot_open(how: str) -> GeoError:
    return GeoError(
        f"a worker cannot open the models, in {TRIES} tries: {how}", where="workers",
        remedy="fewer --workers, as each holds the models, or none to see what goes wrong",
    )  # fmt: skip
