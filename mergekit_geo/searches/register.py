"""What all processes of a study agree on: whoever writes first is followed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from mergekit_geo.files.sound_json import brief

SHOWN = 3


class Register:
    """Agreements of the processes that have a study open.

    Attributes of a study are those of the last writer. Trials are numbered in the order in which
    they were written, in every storage: an agreement is kept on one, of a second study.

    Args:
        study: The study.
    """

    def __init__(self, study: Study) -> None:
        self._study = optuna.create_study(
            storage=study._storage, study_name=f"{study.study_name} (settings)",
            load_if_exists=True,
        )  # fmt: skip

    def delete(self) -> None:
        """Forget what was agreed on."""
        optuna.delete_study(study_name=self._study.study_name, storage=self._study._storage)

    def first(self, key: str, value: Any) -> Any:
        """What was written first under a key: this value, unless another one was there before."""
        if (found := self.found(key)) is None:
            note = create_trial(state=TrialState.FAIL, user_attrs={key: value})
            self._study.add_trial(note)
            found = self.found(key)
        return found

    def found(self, key: str) -> Any:
        """What was written first under a key; None before."""
        notes = (trial.user_attrs for trial in self._study.get_trials(deepcopy=False))
        return next((found[key] for found in notes if key in found), None)


def differences(there: Any, here: Any) -> list[str]:
    """Where two JSON values differ, the first few places.

    Args:
        there: What was found.
        here: What was expected.

    Example:
        >>> differences({"data": {"docs": "a", "code": 1}}, {"data": {"docs": "b", "code": 1}})
        ["data docs is 'a' there and 'b' here"]
    """
    found = list(_differences(there, here, ""))
    more = [f"{len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return [*found[:SHOWN], *more]


def _differences(there: Any, here: Any, at: str) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*here, *(key for key in there if key not in here)]:
            yield from _differences(there.get(key), here.get(key), f"{at} {key}".strip())
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for number, pair in enumerate(zip(there, here, strict=True)):
            yield from _differences(*pair, f"{at}[{number}]")
    elif there != here:
        yield f"{at} is {_told(there)} there and {_told(here)} here"


def _told(value: Any) -> str:
    return "missing" if value is None else brief(value)
