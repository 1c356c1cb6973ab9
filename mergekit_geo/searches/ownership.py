"""Trials belong to the process that runs them; those of a process that has ended are run again."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from mergekit_geo.searches.attributes import AGAIN, LOST, OWNER, TITLE
from mergekit_geo.searches.owner import is_gone, owner

NAMELESS = timedelta(seconds=10)
"""A running trial without an owner for so long has lost it: one is named at once."""


class Ownership:
    """Which process runs each trial of a study.

    On its own machine a process that has ended is seen at once; in a database, processes of other
    machines are known by their signs of life.

    Args:
        study: The study.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._beats = Heartbeats.of(study._storage)

    def take(self, trial: Trial) -> None:
        """This process runs a trial from now on."""
        trial.set_user_attr(OWNER, owner())
        if self._beats is not None:
            self._beats.begin(trial._trial_id)

    def release(self, trial: Trial) -> None:
        """This process no longer runs a trial."""
        if self._beats is not None:
            self._beats.end(trial._trial_id)

    def close(self) -> None:
        """No trial is this process's any more."""
        if self._beats is not None:
            self._beats.close()

    def give_back(self, trial: Trial) -> None:
        """Queue a trial of this process again, as it will not measure it."""
        self.release(trial)
        with suppress(UpdateFinishedTrialError):
            self._end(trial._trial_id)
            _queue(self._study, self._study._storage.get_trial(trial._trial_id), {})

    def take_over(self, *, every: bool = False) -> None:
        """Queue trials again whose process has ended: each once.

        Args:
            every: All that are under way, as no other process has the study open.
        """
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if every or _is_lost(trial):
                with suppress(UpdateFinishedTrialError):  # another process was first
                    self._end(trial._trial_id)
                    queue_again(self._study, trial)
        if self._beats is not None:
            optuna.storages.fail_stale_trials(self._study)

    def _end(self, trial_id: int) -> None:
        self._study._storage.set_trial_state_values(trial_id, TrialState.FAIL)


def queue_again(study: Study, trial: FrozenTrial) -> None:
    """Have a trial measured again whose process has ended, unless it was so before."""
    if LOST not in trial.user_attrs:
        _queue(study, trial, {LOST: True})


def _queue(study: Study, trial: FrozenTrial, notes: dict[str, Any]) -> None:
    kept = {key: trial.user_attrs[key] for key in (TITLE, LOST) if key in trial.user_attrs}
    again = [*trial.user_attrs.get(AGAIN, ()), trial.number]
    study.enqueue_trial(_place(trial), user_attrs={**kept, **notes, AGAIN: again})


def _place(trial: FrozenTrial) -> dict[str, Any]:
    """What is known of a trial's place: as it was queued, and what was drawn of it."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _is_lost(trial: FrozenTrial) -> bool:
    if OWNER in trial.user_attrs:
        return is_gone(trial.user_attrs[OWNER])
    return trial.datetime_start is not None and datetime.now() - trial.datetime_start > NAMELESS


class Heartbeats:
    """Signs of life of this process's trials, given by a thread of their own.

    Args:
        storage: A database.
        interval: Seconds between two.
    """

    def __init__(self, storage: Any, interval: float) -> None:
        self._storage, self._interval = storage, interval
        self._trials: set[int] = set()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @classmethod
    def of(cls, storage: BaseStorage) -> Heartbeats | None:
        """Heartbeats in a storage; None where it keeps none."""
        interval = getattr(storage, "get_heartbeat_interval", lambda: None)()
        return None if interval is None else cls(storage, interval)

    def begin(self, trial_id: int) -> None:
        """Give signs of life of a trial, the first of them now."""
        self._storage.record_heartbeat(trial_id)
        self._trials.add(trial_id)
        if self._thread.ident is None:
            self._thread.start()

    def end(self, trial_id: int) -> None:
        """Give no more of it."""
        self._trials.discard(trial_id)

    def close(self) -> None:
        """Give no more of any."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(self._interval):
            for trial_id in tuple(self._trials):
                with suppress(Exception):  # what asks and tells meets the same trouble, and says so
                    self._storage.record_heartbeat(trial_id)
