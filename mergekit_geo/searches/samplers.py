"""Samplers by name, each drawing a trial by the search's seed and the trial's place in it.

Processes that share a study draw apart, as no two trials have the same place; and a search that was
killed goes on with the draws that it would have made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from mergekit_geo.errors import ArgumentError
from mergekit_geo.searches.attributes import AGAIN, twins
from mergekit_geo.searches.cma import CmaSampler
from mergekit_geo.searches.dimension import Asker
from mergekit_geo.searches.trial import Values
from mergekit_geo.specs.search import SAMPLERS

POPULATION = 8
"""Trials of a generation of NSGA-II: Optuna's 50 would be a whole search of merges."""
Seeded = Callable[[int], BaseSampler]


class Suggests(Protocol):
    """What a sampler needs to know of a space."""

    @property
    def is_continuous(self) -> bool:
        """Whether it has ranges only."""
        ...

    def suggest(self, asker: Asker) -> Values:
        """A value of each dimension, as asked for."""
        ...


def chosen(kind: str, space: Suggests, aims: int) -> str:
    """The sampler that a search uses.

    Args:
        kind: One of `SAMPLERS`; `auto` is CMA-ES for ranges, TPE where there are choices, and
            NSGA-II for several aims.
        space: What is searched.
        aims: How many numbers are minimised.

    Raises:
        ArgumentError: There is none of this name, or it does not search such a space.
    """
    if kind not in SAMPLERS:
        raise ArgumentError(f"no sampler {kind!r}", remedy=f"one of {', '.join(SAMPLERS)}")
    if kind == "auto":
        return "nsga2" if aims > 1 else "cmaes" if space.is_continuous else "tpe"
    if kind == "cmaes" and (aims > 1 or not space.is_continuous):
        lacking = "minimises one number only" if aims > 1 else "knows no choices, only ranges"
        raise ArgumentError(f"the sampler cmaes {lacking}", remedy="--sampler auto, or tpe")
    return kind


def sampler(kind: str, space: Suggests, seed: int) -> BaseSampler:
    """A sampler of Optuna.

    Args:
        kind: As `chosen` gives it.
        space: What is searched.
        seed: Of the search.
    """
    makes: dict[str, Seeded] = {
        "cmaes": lambda own: CmaSampler(_ranges(space), own),
        "tpe": lambda own: optuna.samplers.TPESampler(
            seed=own, multivariate=True, group=not space.is_continuous, constant_liar=True
        ),
        "gp": lambda own: optuna.samplers.GPSampler(seed=own, warn_independent_sampling=False),
        "random": lambda own: optuna.samplers.RandomSampler(seed=own),
        "nsga2": Nsga2,
    }
    return SeededByPlace(makes[kind], seed)


class Nsga2(optuna.samplers.NSGAIISampler):
    """NSGA-II whose first generation includes the points that the search began with.

    Numbers are crossed by blending (BLX-alpha, Eshelman and Schaffer, 1993), which repeats none;
    Optuna's uniform crossover takes those of the parents, and measures some points twice.
    """

    def __init__(self, seed: int) -> None:
        blend = optuna.samplers.nsgaii.BLXAlphaCrossover()
        super().__init__(population_size=POPULATION, seed=seed, crossover=blend, crossover_prob=1.0)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Optuna gives a generation to trials that it draws, and to no others."""
        super().before_trial(study, trial)
        self.get_trial_generation(study, trial)


class SeededByPlace(BaseSampler):
    """A sampler made anew for each trial, with a seed of its own.

    Args:
        make: The sampler of a seed.
        seed: Of the search.
    """

    def __init__(self, make: Seeded, seed: int) -> None:
        self._make, self._seed = make, seed
        self._now = make(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """The next draws are this trial's."""
        words = np.random.SeedSequence([self._seed, place(study, trial)]).generate_state(1)
        self._now = self._make(int(words[0]) % (1 << 31))
        self._now.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Search space of the sampler of this trial."""
        return self._now.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw values that depend on each other, by the sampler of this trial."""
        return self._now.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """Draw one value by itself, by the sampler of this trial."""
        return self._now.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """What the sampler notes of a trial that is over."""
        self._now.after_trial(study, trial, state, values)


def place(study: Study, trial: FrozenTrial) -> int:
    """A trial's number, had every one been measured: what stands for another has that of it."""
    number = trial.user_attrs.get(AGAIN, [trial.number])[0]
    before = study.get_trials(deepcopy=False)[:number]
    again = sum(AGAIN in mine.user_attrs for mine in before)
    return int(number - again - len(twins(before)))


def _ranges(space: Suggests) -> Mapping[str, FloatDistribution]:
    found = _Ranges()
    space.suggest(found)
    return found.ranges


@dataclass(frozen=True)
class _Ranges:
    """Notes what a space asks for, and answers with the lowest value."""

    ranges: dict[str, FloatDistribution] = field(default_factory=dict)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.ranges[name] = FloatDistribution(low, high, log=log)
        return low

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        return choices[0]
