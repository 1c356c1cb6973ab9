"""A process of this machine that measures trials, seen from both ends of its pipe.

It hears no Ctrl-C, as the process that started it decides what becomes of its trial, and it ends
with that process however that ends. What its libraries print goes to the standard error.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from threading import Thread

from mergekit_geo.errors import GeoError
from mergekit_geo.searches.engine import measured, opened
from mergekit_geo.searches.trial import Trial
from mergekit_geo.searches.workers import READY, Message

SPAWN = multiprocessing.get_context("spawn")
GRACE = 2.0
"""Seconds that a process without a trial has to end by itself."""


class Process:
    """One process.

    Args:
        opening: What opens models there, pickled.
        environment: Environment variables to set there first.

    Attributes:
        pipe: Its end of it here.
        trial: What it measures; None while it waits for a trial.
        is_ready: Whether its models are open.
    """

    def __init__(self, opening: bytes, environment: Mapping[str, str]) -> None:
        self.pipe, theirs = SPAWN.Pipe()
        self.trial: Trial | None = None
        self.is_ready = False
        given = (theirs, opening, dict(environment))
        self._process = SPAWN.Process(target=_serve, args=given, daemon=True)
        with _without_interrupts():
            self._process.start()
        theirs.close()

    @property
    def signs(self) -> tuple[Connection, int]:
        """What becomes readable when there is something to hear, or when it has ended."""
        return self.pipe, self._process.sentinel

    def measure(self, trial: Trial) -> bool:
        """Give it a trial; false where it has ended."""
        try:
            self.pipe.send(trial)
        except OSError:
            return False
        self.trial = trial
        return True

    def heard(self) -> Message | None:
        """What it says next; None where it has ended."""
        try:
            if not self.pipe.poll():  # it has ended, though a process of its own holds the pipe
                return None
            said: Message = self.pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError):  # perhaps in the middle of saying it
            return None
        if said == READY:
            self.is_ready = True
        else:
            self.trial = None
        return said

    def how_it_was_lost(self) -> str:
        """How it ended, in words; it is waited for."""
        self._process.join(GRACE)
        code = self._process.exitcode
        if code is None or code >= 0:
            return f"its process ended with exit code {code}"
        remark = ", perhaps for want of memory" if code == -getattr(signal, "SIGKILL", 9) else ""
        return f"its process was ended by signal {-code}{remark}"

    def end(self) -> None:
        """Ask it to end, and end it at once if it is at something."""
        self.pipe.close()
        if self.trial or not self.is_ready:
            self._process.terminate()

    def join(self) -> None:
        """Wait until it has ended, and see to it."""
        self._process.join(GRACE)
        self._process.kill()
        self._process.join()
        with suppress(ValueError):  # somebody else has asked the system how it ended
            self._process.close()


def _serve(pipe: Connection, opening: bytes, environment: Mapping[str, str]) -> None:
    """Open models, and measure one trial after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    _surroundings(environment)
    measure = opened(opening)
    if isinstance(measure, GeoError):
        pipe.send(measure)
        return
    with suppress(EOFError, OSError):  # nobody is there any more
        pipe.send(READY)
        while True:
            pipe.send(measured(measure, pipe.recv()))


def _surroundings(environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    threads = environment.get("OMP_NUM_THREADS", "")
    if threads and "torch" in sys.modules:  # by the script that called for a search
        sys.modules["torch"].set_num_threads(int(threads))
    with suppress(OSError):
        os.dup2(2, 1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Context in which Ctrl-C waits, and for processes that are started in it, for ever."""
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # it would lift what is blocked here
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
