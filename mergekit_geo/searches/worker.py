"""Measures trials: the point of each is put into one live module, and no file is written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mergekit_geo.evaluation.aim import Aim
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.evaluation.study import Study
from mergekit_geo.searches.candidates import Candidates
from mergekit_geo.searches.racing import Race
from mergekit_geo.searches.schedule import Schedule
from mergekit_geo.searches.space import Space
from mergekit_geo.searches.trial import Outcome, Trial
from mergekit_geo.tasks.losses import Floats

if TYPE_CHECKING:
    from mergekit_geo.specs.search import SearchSpec


def open_measurer(asked: SearchSpec, counts: Sequence[int]) -> Measurer:
    """Load the models of a search in a process of its own.

    Args:
        asked: The call, with the recipe as a mapping.
        counts: Examples of each set, as the coordinator has settled them.
    """
    candidates = Candidates.open(Space.of(asked.source), asked.models or {}, asked.reshape)
    candidates = replace(candidates, dtype=asked.output.stored_dtype)
    prepared = candidates.prepared
    study = Study.of(prepared.checkpoints, prepared.checked(), asked)
    evaluator = PointEvaluator.open(study, len(counts), refresh_models=False, counts=counts)
    return Measurer(candidates, evaluator, race_of(asked, evaluator))


def race_of(asked: SearchSpec, evaluator: PointEvaluator) -> Race:
    """How trials of a search are compared, and when they are stopped.

    Args:
        asked: The call.
        evaluator: Measures points on the first set.

    Raises:
        DataError: Too few examples for racing.
    """
    schedule = Schedule.of(evaluator, racing=asked.racing, seed=evaluator.study.seed)
    aim = Aim(evaluator, asked.aiming.combined)
    return Race.of(schedule, aim, pareto=asked.aiming.is_pareto)


@dataclass(frozen=True)
class Measurer:
    """Measures trials with one live module.

    Attributes:
        candidates: Give the point of a trial.
        evaluator: Holds the module.
        race: Says when a trial is stopped.
    """

    candidates: Candidates
    evaluator: PointEvaluator
    race: Race

    def __call__(self, trial: Trial) -> Outcome:
        """Measure a trial until it is done, or significantly worse than a rival."""
        began = time.perf_counter()
        return replace(self._measured(trial), seconds=time.perf_counter() - began)

    def _measured(self, trial: Trial) -> Outcome:
        schedule = self.race.schedule
        self.evaluator.go_to(self.candidates.point(trial.values, f"trial {trial.number}"))
        so_far: list[Floats] = [np.empty(0) for _ in self.evaluator.every]
        share = 0.0
        for look in range(schedule.looks):
            for i in range(len(so_far)):
                so_far[i] = np.concatenate([so_far[i], self._block(look, i)])
            share += float(schedule.cost[look])
            losses = tuple(so_far)
            if not all(np.isfinite(each).all() for each in losses):
                return Outcome(trial.number, (), share=share, error="the loss is not a number")
            is_last = look + 1 == schedule.looks
            if not is_last and self.race.is_worse(losses, look, trial.rivals, trial.known):
                return Outcome(trial.number, losses, stopped=True, share=share)
        return Outcome(trial.number, losses)

    def _block(self, look: int, index: int) -> Floats:
        """Losses of the units of a block, in the order of racing."""
        one = self.evaluator.every[index]
        rows = self.race.schedule.rows(look, index)
        if not len(rows):
            return np.empty(0)
        losses = one.module_evaluator.on(rows, one.live.model)
        return self.race.schedule.losses(losses, index, look)
