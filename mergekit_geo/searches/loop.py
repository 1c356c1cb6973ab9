"""The search itself: values are asked of a study, measured by an engine, and told to the study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mergekit_geo.errors import DataError
from mergekit_geo.progress import Progress, expect
from mergekit_geo.searches.engine import Engine
from mergekit_geo.searches.racing import KNOWN, Race
from mergekit_geo.searches.trial import DocumentLosses, Outcome, Trial, Values

if TYPE_CHECKING:
    from mergekit_geo.interrupt import Interruption
    from mergekit_geo.records.losses import Estimate
    from mergekit_geo.searches.space import Space
    from mergekit_geo.searches.study import SearchStudy
    from mergekit_geo.searches.trials import Finished

WAIT = 0.5
"""Seconds after which a search looks whether it was asked to end."""
HOPELESS = 5
"""Trials that fail before any is measured, after which a search gives up."""


@dataclass(frozen=True)
class Limits:
    """When a search ends.

    Attributes:
        trials: After so many.
        evaluations: When document losses worth so many full evaluations are measured.
        of_process: Whether trials of this process are counted, and not those of the study.
    """

    trials: int
    evaluations: float | None = None
    of_process: bool = False


@dataclass
class Search:
    """Trials of a study, as many as its limits let.

    Attributes:
        study: Keeps the trials.
        space: What is searched.
        race: Compares trials.
        engine: Measures them.
        limits: When it ends.
        progress: Told of trials done, the best so far, and the time left.
        asked: Whether it was asked to end early.
    """

    study: SearchStudy
    space: Space
    race: Race
    engine: Engine
    limits: Limits
    progress: Progress
    asked: Interruption
    _running: dict[int, Trial] = field(default_factory=dict)
    _own: list[Outcome] = field(default_factory=list)

    def run(self) -> None:
        """Make trials until a limit is reached, or somebody asks for an end.

        Raises:
            DataError: None of the first can be measured.
        """
        self.progress.phase("searching", self.limits.trials)
        self.progress.advance(min(len(self._shares()), self.limits.trials))
        while self._wants_more() or (self._running and not self.asked.set):
            while self._wants_more() and len(self._running) < self.engine.slots:
                self._submit()
            for outcome in self.engine.finished(WAIT):
                self._tell(outcome)
        for number in self._running:
            self.study.give_back(number)

    def _wants_more(self) -> bool:
        if self.asked.set:
            return False
        shares = self._shares()
        if len(shares) + len(self._running) >= self.limits.trials:
            return False
        most = math.inf if self.limits.evaluations is None else self.limits.evaluations
        return sum(shares) + len(self._running) * _mean(shares) < most

    def _shares(self) -> list[float]:
        """What every trial that counts has cost, as a share of a full evaluation."""
        counted = self._own if self.limits.of_process else self.study.finished()
        return [one.share for one in counted]

    def _submit(self) -> None:
        number, values, _ = self.study.ask(self.space)
        trial = Trial(number, values, *self._others())
        self._running[number] = trial
        self.engine.submit(trial)

    def _others(self) -> tuple[tuple[DocumentLosses, ...], tuple[DocumentLosses, ...]]:
        """What a trial runs against, the best so far or the front, and the latest of the others."""
        if self.race.schedule.looks == 1:
            return (), ()
        best = self.study.best
        rivals = self.study.front if self.race.pareto else [best] if best else []
        numbers = {one.number for one in rivals}
        others = [one for one in self.study.finished() if one.number not in numbers]
        return _losses(rivals), _losses(others[::-1])[:KNOWN]

    def _tell(self, outcome: Outcome) -> None:
        trial = self._running.pop(outcome.number)
        self._own.append(outcome)
        if outcome.error:
            self.study.fail(outcome.number, outcome.error)
            self._give_up(outcome.error)
        else:
            self._told(trial, outcome)
        self.progress.advance(1)
        left = self.limits.trials - len(self._shares())
        seconds = _mean([one.seconds for one in self._own]) * left / self.engine.slots
        expect(self.progress, "trials", max(seconds, 0.0))

    def _told(self, trial: Trial, outcome: Outcome) -> None:
        race, losses, number = self.race, outcome.losses, outcome.number
        lost = race.lost(losses)
        if race.pareto:
            stopped = outcome.stopped
            values = (
                race.told_values(losses, trial.rivals, trial.known)
                if stopped
                else race.values(losses)
            )
            self.study.tell(number, values, outcome, lost)
            return
        before = self.study.best
        if outcome.stopped:
            self.study.tell(number, race.told(losses, trial.rivals, trial.known), outcome, lost)
        else:
            found = _ends(race.interval(losses))
            self.study.tell(number, race.value(losses), outcome, lost, found)
        self._say_best(before)

    def _say_best(self, before: Finished | None) -> None:
        best = self.study.best
        if best is not None and (before is None or best.number != before.number):
            found = best.title or said(best.values)
            self.progress.say(f"trial {best.number} is the best so far: {best.value:.4f} ({found})")

    def _give_up(self, error: str) -> None:
        if len(self._own) == HOPELESS and all(one.error for one in self._own):
            raise DataError(f"none of {HOPELESS} trials could be measured: {error}")


def said(values: Values) -> str:
    """Values in words.

    Example:
        >>> said({"density": 0.25, "merge_method": "ties"})
        'density 0.25, merge_method ties'
    """
    shown = (v if isinstance(v, str) else f"{v:.4g}" for v in values.values())
    return ", ".join(f"{name} {value}" for name, value in zip(values, shown, strict=True))


def _ends(found: Estimate) -> tuple[float, float] | None:
    return None if found.low is None or found.high is None else (found.low, found.high)


def _losses(some: Iterable[Finished]) -> tuple[DocumentLosses, ...]:
    """Losses of those that were measured whole."""
    return tuple(one.losses for one in some if one.losses is not None)


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0
