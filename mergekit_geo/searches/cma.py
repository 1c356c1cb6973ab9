"""CMA-ES as a sampler of Optuna, told again from the trials of the study at each draw.

Optuna's own sampler keeps its state as a pickle in the storage, where whoever may write there can
put another, knows no constraints, and begins in the middle. This one keeps nothing but which
trials made each generation: any process goes on where any other one has left off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cmaes
import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from mergekit_geo.searches.attributes import AGAIN, TITLE
from mergekit_geo.tasks.losses import Floats

STEP = 1 / 6
"""First standard deviation, as a share of each range."""
START = "cma:start"
GENERATION = "cma:generation"


@dataclass(frozen=True)
class UnitCube:
    """The ranges of a space as the unit cube; those with `log` by their logarithm."""

    ranges: Mapping[str, FloatDistribution]

    def point(self, values: Mapping[str, Any]) -> Floats:
        """(d,) of a place in the space."""
        return np.array(
            [
                (_scaled(values[name], at.log) - _scaled(at.low, at.log)) / _width(at)
                for name, at in self.ranges.items()
            ]
        )

    def has(self, trial: FrozenTrial) -> bool:
        """Whether a trial, perhaps of another tool, is a place in the space."""
        return self.ranges.keys() <= trial.params.keys()

    def values(self, point: Sequence[float] | Floats) -> dict[str, float]:
        """The place of a point (d,)."""
        shares = zip(self.ranges.items(), map(float, point), strict=True)
        return {name: _within(at, share) for (name, at), share in shares}


def _scaled(value: float, log: bool) -> float:
    return math.log(value) if log else value


def _within(at: FloatDistribution, share: float) -> float:
    value = _scaled(at.low, at.log) + share * _width(at)
    return min(max(math.exp(value) if at.log else value, at.low), at.high)


def _width(at: FloatDistribution) -> float:
    return _scaled(at.high, at.log) - _scaled(at.low, at.log)


class CmaSampler(BaseSampler):
    """Covariance matrix adaptation (Hansen, 2016) from the best point that the search began with.

    A trial that loses on sets to keep ranks behind all that do not, by how much (Deb, 2000): only
    ranks enter. Trials of other processes that come late count in the generation then under way.

    Args:
        ranges: Of the space.
        seed: Of this draw.
    """

    def __init__(self, ranges: Mapping[str, FloatDistribution], seed: int) -> None:
        self._cube = UnitCube({name: at for name, at in ranges.items() if not at.single()})
        self._seed = seed
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All ranges; one with a single value is none."""
        return dict(self._cube.ranges)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A draw from the distribution that the trials so far have led to."""
        if not self._cube.ranges:
            return {}
        trials = study.get_trials(deepcopy=False)
        start = _start(trials) or self._begin(study, trial, trials)
        state = cmaes.CMA(
            mean=np.array(start), sigma=STEP, seed=self._seed,
            bounds=np.tile((0.0, 1.0), (len(start), 1)), n_max_resampling=10 * len(start),
        )  # fmt: skip
        waiting = [mine for mine in trials if _is_drawn(mine) and self._cube.has(mine)]
        for members in _generations(trials):
            state.tell(self._ranked([trials[number] for number in members]))
            waiting = [mine for mine in waiting if mine.number not in members]
        if len(waiting) >= state.population_size:
            newest = waiting[: state.population_size]
            _note(study, trial, GENERATION, [state.generation, *(mine.number for mine in newest)])
            state.tell(self._ranked(newest))
        return self._cube.values(state.ask())

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """A uniform draw of what is no range."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _begin(
        self, study: Study, trial: FrozenTrial, trials: Sequence[FrozenTrial]
    ) -> list[float]:
        """The best point that the search began with, the middle if none is measured."""
        known = [t for t in trials if t.state == TrialState.COMPLETE and self._cube.has(t)]
        best = min(known, key=rank, default=None)
        start = [0.5] * len(self._cube.ranges) if best is None else self._cube.point(best.params)
        _note(study, trial, START, [float(share) for share in start])
        return list(start)

    def _ranked(self, trials: Sequence[FrozenTrial]) -> list[tuple[Floats, float]]:
        ordered = sorted(trials, key=rank)
        return [(self._cube.point(mine.params), float(at)) for at, mine in enumerate(ordered)]


def rank(trial: FrozenTrial) -> tuple[float, float, int]:
    """The order of finished trials: those that break no constraint, by value; then by violation."""
    violation = sum(max(value, 0.0) for value in trial.constraints.values())
    return violation, trial.value if trial.value is not None else math.inf, trial.number


def _start(trials: Sequence[FrozenTrial]) -> list[float] | None:
    """Where the first draw of all began; two at the same time are told apart by their number."""
    return next((t.system_attrs[START] for t in trials if START in t.system_attrs), None)


def _is_drawn(trial: FrozenTrial) -> bool:
    """Whether a finished trial's place was drawn here, though perhaps measured the second time."""
    given = "fixed_params" in trial.system_attrs and AGAIN not in trial.user_attrs
    return trial.state == TrialState.COMPLETE and not given and TITLE not in trial.user_attrs


def _generations(trials: Sequence[FrozenTrial]) -> list[list[int]]:
    """The members of each generation that is over, as the first trial after it has noted them."""
    found: dict[int, list[int]] = {}
    for trial in trials:
        if told := trial.system_attrs.get(GENERATION):
            found.setdefault(told[0], told[1:])
    return [found[number] for number in sorted(found)]


def _note(study: Study, trial: FrozenTrial, key: str, value: Any) -> None:
    study._storage.set_trial_system_attr(trial._trial_id, key, value)
