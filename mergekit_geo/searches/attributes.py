"""What a study notes on its trials, beside what Optuna does."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from mergekit_geo.searches.trial import DocumentLosses, Outcome
from mergekit_geo.searches.trials import Finished

TITLE = "title"
OWNER = "owner"
AGAIN = "again"
"""Numbers of the trials that a trial stands for, as they were not measured to their end."""
LOST = "lost"
"""Whether a trial stands for one whose process ended: should its own end as well, it failed."""
OUTCOME = "outcome"
LOSSES = "losses"
ERROR = "error"
ENDED = "the process that measured it ended"
KEPT = "kept"
"""Name of the constraint: the largest significant rise on a set to keep is its violation."""


def twins(trials: Iterable[FrozenTrial]) -> set[int]:
    """Numbers of starts that a second process queued at the same time: each is measured once."""
    seen: set[str] = set()
    found = set()
    for trial in trials:
        title = trial.user_attrs.get(TITLE)
        if title is not None and AGAIN not in trial.user_attrs:
            found |= {trial.number} if title in seen else set()
            seen.add(title)
    return found


def outcome_attributes(
    outcome: Outcome, lost: float, interval: tuple[float, float] | None
) -> dict[str, Any]:
    """What is noted on a trial that was measured; the losses only of a whole one."""
    told: dict[str, Any] = {
        "stopped": outcome.stopped, "share": outcome.share, "seconds": outcome.seconds,
        "lost": lost, "interval": interval,
    }  # fmt: skip
    losses = {} if outcome.stopped else {LOSSES: encoded(outcome.losses)}
    return {OUTCOME: told, **losses}


def finished(trials: Sequence[FrozenTrial], known: dict[int, Finished]) -> list[Finished]:
    """What came of the trials that are over, without those that another one stands for.

    Args:
        trials: All of a study.
        known: Measured ones that were read before, whose losses are not decoded again.
    """
    replaced = {number for trial in trials for number in trial.user_attrs.get(AGAIN, ())}
    replaced |= twins(trials)
    found = (_finished(trial, known) for trial in trials if trial.number not in replaced)
    return [trial for trial in found if trial is not None]


def _finished(trial: FrozenTrial, known: dict[int, Finished]) -> Finished | None:
    if trial.number in known:
        return known[trial.number]
    notes = trial.user_attrs
    title = notes.get(TITLE, "")
    if trial.state == TrialState.FAIL:
        error = notes.get(ERROR, ENDED)
        return Finished(trial.number, trial.params, title=title, share=0.0, error=error)
    if trial.state != TrialState.COMPLETE:
        return None
    found = Finished(trial.number, trial.params, tuple(trial.values), title=title, **_found(notes))
    return known.setdefault(trial.number, found)


def _found(notes: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a measured trial; one that others have told has none of them."""
    told = dict(notes.get(OUTCOME, {}))
    if (interval := told.get("interval")) is not None:
        told["interval"] = tuple(interval)
    return {**told, "losses": decoded(notes[LOSSES]) if LOSSES in notes else None}


def encoded(losses: DocumentLosses) -> list[str]:
    """Losses as text, exactly.

    Example:
        >>> decoded(encoded((np.array([0.1, 0.2]),)))
        (array([0.1, 0.2]),)
    """
    return [base64.b64encode(np.asarray(each, "<f8").tobytes()).decode() for each in losses]


def decoded(texts: list[str]) -> DocumentLosses:
    """The losses of such text."""
    return tuple(np.frombuffer(base64.b64decode(text), "<f8").astype(float) for text in texts)
