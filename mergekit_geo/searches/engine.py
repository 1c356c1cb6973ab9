"""Engines: who measures trials, and how many at once.

An engine is opened with what opens a `Measure`, as models are loaded by the process that measures
them. A trial that cannot be measured, or that is lost with its process or machine, comes back with
an error: a search that runs for a night does not end with one trial.
"""

from __future__ import annotations

import pickle
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Protocol, Self

from mergekit_geo.errors import ArgumentError, GeoError, InternalError
from mergekit_geo.searches.trial import Measure, Outcome, Trial

Open = Callable[[], Measure]
"""Opens models and data in the process that calls it; it travels there by pickle."""


class Engine(Protocol):
    """Measures trials, several at once where it can.

    Example:
        >>> from mergekit_geo.searches.trial import Outcome, Trial
        >>> with Here(lambda trial: Outcome(trial.number, losses=())) as engine:
        ...     engine.submit(Trial(7, {"t": 0.5}))
        ...     print(engine.slots, engine.finished(wait=1.0)[0].number)
        1 7
    """

    @property
    def slots(self) -> int:
        """How many trials it measures at once; it may be given more, which wait."""

    def submit(self, trial: Trial) -> None:
        """Take a trial; nothing is waited for."""

    def finished(self, wait: float) -> list[Outcome]:
        """The trials that have ended since the last call, each of them once.

        Args:
            wait: Seconds to wait for one, if there is none.

        Raises:
            GeoError: Nothing can be measured, as models cannot be loaded.
        """

    def close(self) -> None:
        """End what still runs, without its result, and all processes that were started."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Here(Engine):
    """Measures in this process, one trial at a time, while it is asked for what has finished.

    Args:
        measure: Measures a trial.
    """

    slots = 1

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._waiting: deque[Trial] = deque()

    def submit(self, trial: Trial) -> None:
        """Take a trial."""
        self._waiting.append(trial)

    def finished(self, wait: float) -> list[Outcome]:
        """Measure the next trial, however long that takes."""
        return [measured(self._measure, self._waiting.popleft())] if self._waiting else []

    def close(self) -> None:
        """Forget the trials that wait."""
        self._waiting.clear()


def pickled(opening: Open, dumps: Callable[[Open], bytes], where: str, remedy: str = "") -> bytes:
    """What opens models, as it is sent to other processes.

    Args:
        opening: What opens them.
        dumps: Pickles it.
        where: The option that asks for other processes.
        remedy: A further way out.

    Raises:
        ArgumentError: It cannot be pickled.
    """
    try:
        return dumps(opening)
    except Exception as error:
        ways = ["name models and data by folder or Hub id", remedy, f"or leave {where} out"]
        raise ArgumentError(
            f"models and data cannot be sent to other processes: {error}",
            where=where,
            remedy=", ".join(filter(None, ways)),
        ) from error


def opened(sent: bytes) -> Measure | GeoError:
    """Open models in a process that was started for it, or say why they cannot be.

    Args:
        sent: What opens them, pickled.
    """
    try:
        measure: Measure = pickle.loads(sent)()
    except GeoError as error:
        return error
    except Exception as error:
        unexpected = InternalError.of(error)
        unexpected.add_note(traceback.format_exc())
        return unexpected
    return measure


def measured(measure: Measure, trial: Trial) -> Outcome:
    """Measure a trial; what goes wrong is in the outcome.

    Args:
        measure: Measures it.
        trial: What is to be measured.
    """
    begun = time.monotonic()
    try:
        return measure(trial)
    except GeoError as error:
        why = str(error)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    return lost(trial, why, time.monotonic() - begun)


def lost(trial: Trial, why: str, seconds: float = 0.0) -> Outcome:
    """The outcome of a trial that was not measured.

    Args:
        trial: What was to be measured.
        why: What happened.
        seconds: How long it ran.
    """
    return Outcome(trial.number, losses=(), share=0.0, seconds=seconds, error=why)
