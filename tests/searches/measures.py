"""Toy measures for engines: what they do with a trial stands in its values."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mergekit_geo.errors import IncompatibleError, NonFiniteError
from mergekit_geo.searches.trial import Measure, Outcome, Trial


def measure(trial: Trial) -> Outcome:
    """The square of x, after some seconds; or what else `do` says."""
    values = dict(trial.values)
    what = values.get("do", "")
    time.sleep(float(values.get("seconds", 0)))
    if what == "fail":
        raise NonFiniteError("infinity", where="layer 0", remedy="a smaller weight")
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "exit":
        os._exit(3)
    if what == "print":
        print("printed by a library")
    told = [float(values.get("x", 0)) ** 2, os.getpid(), float(os.environ["OMP_NUM_THREADS"])]
    return Outcome(trial.number, losses=(np.array(told),))


def pid(outcome: Outcome) -> int:
    """The process that measured."""
    return int(outcome.losses[0][1])


def plain() -> Measure:
    return measure


def refused() -> Measure:
    raise IncompatibleError(["a is a Llama", "b is none"], remedy="other models")


def broken() -> Measure:
    return {}["no such key"]


def killed() -> Measure:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@dataclass(frozen=True)
class Counted:
    """Notes each opening in a folder; from the nth on it cannot open.

    Attributes:
        folder: A file for each process that opened.
        most: How many may.
    """

    folder: Path
    most: int

    def __call__(self) -> Measure:
        if len(list(self.folder.iterdir())) >= self.most:
            return refused()
        (self.folder / str(os.getpid())).touch()
        return measure
