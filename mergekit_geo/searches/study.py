"""A study: the trials of a search, kept where every process that takes part can reach them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from mergekit_geo.errors import ArgumentError
from mergekit_geo.searches import attributes, trials
from mergekit_geo.searches.attributes import KEPT, TITLE, outcome_attributes
from mergekit_geo.searches.importance import importances
from mergekit_geo.searches.ownership import Ownership
from mergekit_geo.searches.register import Register, differences
from mergekit_geo.searches.samplers import Suggests, chosen, sampler
from mergekit_geo.searches.storage import open_storage, told
from mergekit_geo.searches.storage_place import shown
from mergekit_geo.searches.trial import Outcome, Values
from mergekit_geo.searches.trials import Finished

IDENTITY, COUNTS = "identity", "counts"


class SearchStudy:
    """Trials of one search: asked for, told, and looked at.

    Several processes can have the same study open, here or on other machines: they share its
    trials, and each is measured once. A process that was killed loses the trial that it was
    measuring, which the next one to ask on its machine measures again, once.

    Attributes:
        where: The storage, as it is printed.
        name: Of the study.
        aims: How many numbers are minimised.

    Example:
        >>> study = SearchStudy.open(None, "search", {"data": "docs"})
        >>> study.enqueue([("default recipe", {"t": 0.5})])
        >>> study.finished()
        []
    """

    def __init__(
        self, study: optuna.Study, *, where: str, kind: str, seed: int, constrained: bool
    ) -> None:
        self.where, self.name, self.aims = where, study.study_name, len(study.directions)
        self._study, self._kind, self._seed, self._constrained = study, kind, seed, constrained
        self._asked: dict[int, Trial] = {}
        self._known: dict[int, Finished] = {}
        self._ownership = Ownership(study)
        self._register = Register(study)

    @classmethod
    def open(
        cls, storage: str | Path | None, name: str, identity: Mapping[str, Any], *, aims: int = 1,
        sampler: str = "auto", seed: int = 0, constrained: bool = False, shared: bool = True,
    ) -> SearchStudy:  # fmt: skip
        """The study of this name, made where there is none.

        Args:
            storage: File of a journal; URL of a database; None for memory.
            name: Of the study.
            identity: What makes it this search, as JSON: the space, the models, the data.
            aims: How many numbers are minimised.
            sampler: One of `samplers.SAMPLERS`.
            seed: Of the sampler.
            constrained: Whether trials are told what they lose on sets to keep.
            shared: Whether other processes may have it open. Where none can, a trial that is under
                way is of a process that has ended, even of another machine or container, and a
                study of another search gives way as long as it has no trial.

        Raises:
            ArgumentError: The study is of another search, or the file no journal.
            OutputError: The storage cannot be reached.
        """
        where = shown(storage)
        known = json.loads(json.dumps({**identity, "aims": aims}))
        with told(where):
            kept = open_storage(storage)
            if not shared:
                _forget_unused(kept, name, known)
            study = optuna.create_study(
                storage=kept, study_name=name, load_if_exists=True, directions=["minimize"] * aims
            )
            opened = cls(study, where=where, kind=sampler, seed=seed, constrained=constrained)
            opened._require_same(known)
            opened._ownership.take_over(every=not shared)
        return opened

    def enqueue(self, starts: Sequence[tuple[str, Values]]) -> None:
        """Have points measured before any other; those queued before are not queued again.

        Args:
            starts: Title and place of each.
        """
        with told(self.where):
            queued = {trial.user_attrs.get(TITLE) for trial in self._trials()}
            for title, values in starts:
                if title not in queued:
                    self._study.enqueue_trial(dict(values), user_attrs={TITLE: title})

    def ask(self, space: Suggests) -> tuple[int, Values, str]:
        """The next trial: its number, its place, and the title of a point that was queued.

        Args:
            space: What is searched, the same at every call.

        Raises:
            ArgumentError: The sampler does not search such a space.
        """
        with told(self.where):
            kind = chosen(self._kind, space, self.aims)
            self._study.sampler = sampler(kind, space, self._seed)
            self._ownership.take_over()
            trial = self._next()
            self._asked[trial.number] = trial
            return trial.number, space.suggest(trial), trial.user_attrs.get(TITLE, "")

    def tell(
        self, number: int, value: float | Sequence[float], outcome: Outcome,
        lost: float = 0.0, interval: tuple[float, float] | None = None,
    ) -> None:  # fmt: skip
        """What came of a trial that this process has asked for.

        Args:
            number: Of the trial.
            value: The number to minimise, or one for each aim.
            outcome: What was measured.
            lost: Largest significant rise on a set to keep; 0 if there is none.
            interval: Of the value.
        """
        values = [value] if isinstance(value, int | float) else list(value)
        if not all(map(math.isfinite, [*values, lost])):
            return self.fail(number, f"its loss is not finite: {values}")
        notes = outcome_attributes(outcome, lost, interval)
        return self._over(number, notes, lost, values=[float(each) for each in values])

    def fail(self, number: int, reason: str) -> None:
        """A trial that this process has asked for could not be measured."""
        self._over(number, {attributes.ERROR: reason}, state=TrialState.FAIL)

    def give_back(self, number: int) -> None:
        """A trial that this process has asked for is left to the next one that asks."""
        trial = self._asked.pop(number)
        with told(self.where):
            self._ownership.give_back(trial)

    def finished(self) -> list[Finished]:
        """Every trial that is over, by number."""
        with told(self.where):
            return attributes.finished(self._trials(), self._known)

    @property
    def best(self) -> Finished | None:
        """The lowest value among whole trials that keep every set; None with several aims."""
        return trials.best(self.finished()) if self.aims == 1 else None

    @property
    def least_bad(self) -> Finished | None:
        """The trial that loses least on the sets to keep."""
        return trials.least_bad(self.finished())

    @property
    def front(self) -> list[Finished]:
        """The whole trials that keep every set and that no other one dominates."""
        return trials.front(self.finished())

    @property
    def counts(self) -> dict[str, Any]:
        """What is settled so far; empty before the first process has done so."""
        with told(self.where):
            return dict(self._register.found(COUNTS) or {})

    def settled(self, counts: Mapping[str, Any]) -> dict[str, Any]:
        """What holds for all processes of the study: what the first of them has settled.

        Args:
            counts: What this process would settle, as JSON.
        """
        with told(self.where):
            return dict(self._register.first(COUNTS, dict(counts)))

    def importances(self) -> dict[str, float]:
        """The share of each parameter in the variance of the value, as `importance` has it."""
        with told(self.where):
            return importances(self._study)

    def close(self) -> None:
        """Let go of the storage; what it holds stays."""
        self._ownership.close()

    def _next(self) -> Trial:
        """A trial of this process, with what is queued twice passed over."""
        while True:
            trial = self._study.ask()
            with suppress(UpdateFinishedTrialError):  # taken for lost before it had its owner
                self._ownership.take(trial)
                if trial.number not in attributes.twins(self._trials()):
                    return trial
                self._ownership.release(trial)
                self._study.tell(trial, state=TrialState.FAIL)

    def _over(
        self, number: int, notes: Mapping[str, Any], lost: float = 0.0,
        values: Sequence[float] | None = None, state: TrialState = TrialState.COMPLETE,
    ) -> None:  # fmt: skip
        """Note what is known and finish, unless another process took this one for dead."""
        trial = self._asked.pop(number)
        with told(self.where):
            self._ownership.release(trial)
            with suppress(UpdateFinishedTrialError):
                for key, note in notes.items():
                    trial.set_user_attr(key, note)
                if self._constrained and state == TrialState.COMPLETE:
                    trial.set_constraint(KEPT, float(lost))
                self._study.tell(trial, values, state=state)

    def _require_same(self, mine: Mapping[str, Any]) -> None:
        if found := differences(self._register.first(IDENTITY, mine), mine):
            raise ArgumentError(
                f"the study {self.name!r} is of another search: {'; '.join(found)}",
                where=self.where,
                remedy="go on with what it was begun with, or name another study by --study",
            )

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)


def _forget_unused(kept: BaseStorage, name: str, identity: Mapping[str, Any]) -> None:
    """Delete a study of another search that was refused before its first trial."""
    if name not in optuna.get_all_study_names(kept):
        return
    study = optuna.load_study(study_name=name, storage=kept)
    register = Register(study)
    is_unused = all(one.state is TrialState.WAITING for one in study.get_trials(deepcopy=False))
    if is_unused and register.found(IDENTITY) not in (None, identity):
        register.delete()
        optuna.delete_study(study_name=name, storage=kept)
