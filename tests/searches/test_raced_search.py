"""Whole searches on made-up losses: racing finds the same for less."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from mergekit_geo.config.aim import AimConfig
from mergekit_geo.interrupt import Interruption
from mergekit_geo.progress import Silent
from mergekit_geo.searches.engine import Here
from mergekit_geo.searches.loop import Limits, Search
from mergekit_geo.searches.racing import KNOWN, Race
from mergekit_geo.searches.schedule import looks_of
from mergekit_geo.searches.study import SearchStudy
from mergekit_geo.searches.trial import DocumentLosses, Outcome, Trial
from tests.searches.races import order, schedule
from tests.searches.toy import Toy

UNITS, TRIALS = 150, 30
ENDS = [round(share * UNITS) for share in looks_of({"any": UNITS})]
DRAW = np.random.default_rng(3)
OPTIMA = [np.array([0.3, 0.4]), np.array([0.6, 0.7])]
OWN = [optimum + 0.15 * DRAW.normal(size=(UNITS, 2)) for optimum in OPTIMA]


def race_of(aim: str = "mean", *, racing: bool = True, pareto: bool = False) -> Race:
    """Over two sets, with looks or without."""
    ends, best = ENDS if racing else [UNITS], np.full(UNITS, 3.0)
    sets = schedule(*(order(best, ends, name=name) for name in ("prose", "code")))
    return Race(sets, AimConfig(aim), (0.5, 0.5), (1.0, 1.0), pareto)


def losses_at(place: list[float]) -> DocumentLosses:
    """Bowls, of which every unit has its own."""
    return tuple(3 + np.square(np.array(place) - own).sum(1) for own in OWN)


@dataclass
class Measured:
    """Measures units block by block, as far as a race lets."""

    race: Race
    trials: list[Trial] = field(default_factory=list)

    def __call__(self, trial: Trial) -> Outcome:
        self.trials.append(trial)
        losses = losses_at([float(trial.values[name]) for name in ("w0", "w1")])
        for look, share in enumerate(self.race.schedule.met):
            met = tuple(one[: self.race.schedule.sets[0].ends[look]] for one in losses)
            if self.race.is_worse(met, look, trial.rivals, trial.known):
                return Outcome(trial.number, met, stopped=True, share=float(share))
        return Outcome(trial.number, losses)


def run(race: Race, measured: Measured | None = None) -> SearchStudy:
    """A random search, which proposes the same whatever it is told."""
    aims = 2 if race.pareto else 1
    study = SearchStudy.open(None, "toy", {}, aims=aims, sampler="random", seed=1)
    engine = Here(measured or Measured(race))
    Search(study, Toy(), race, engine, Limits(TRIALS), Silent(), Interruption()).run()  # type: ignore[arg-type]
    return study


@pytest.mark.parametrize("aim", ["mean", "worst"])
def test_racing_finds_the_same_for_less(aim: str) -> None:
    raced, whole = run(race_of(aim)), run(race_of(aim, racing=False))
    assert raced.best is not None
    assert whole.best is not None
    assert (raced.best.number, raced.best.value) == (whole.best.number, whole.best.value)
    assert sum(one.share for one in raced.finished()) < 0.5 * TRIALS
    stopped = [one for one in raced.finished() if one.stopped]
    right = {one.number: one.value for one in whole.finished()}
    assert (
        np.corrcoef([one.value for one in stopped], [right[one.number] for one in stopped])[0, 1]
        > 0.95
    )
    assert min(one.value for one in stopped) >= raced.best.value


def test_racing_finds_the_same_front() -> None:
    raced, whole = run(race_of(pareto=True)), run(race_of(racing=False, pareto=True))
    assert [one.number for one in raced.front] == [one.number for one in whole.front]
    assert sum(one.share for one in raced.finished()) < 0.8 * TRIALS


def test_a_trial_knows_its_rival_and_the_latest_other_whole_trials() -> None:
    race = race_of()
    measured = Measured(race)
    study = run(race, measured)
    values = {one.number: one.value for one in study.finished() if one.losses is not None}
    for trial in measured.trials[1:]:
        before = [number for number in values if number < trial.number]
        best = min(before, key=lambda number: values[number])
        assert [race.value(one) for one in trial.rivals] == [values[best]]
        others = [values[number] for number in before[::-1] if number != best][:KNOWN]
        assert [race.value(one) for one in trial.known] == others
