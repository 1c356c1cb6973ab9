"""A trial is stopped where a naive test says so, and counts no less than what stopped it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mergekit_geo.config.aim import AimConfig
from mergekit_geo.evaluation.statistics import document_mean
from mergekit_geo.searches.racing import LEVEL, Race
from mergekit_geo.searches.rise import Rise
from tests.searches.races import order, schedule

N, ENDS = 40, (10, 20, 40)
NOISE = np.random.default_rng(0).normal(size=(4, N))
BEST = 3 + 0.5 * NOISE[0]
ONE = Race(schedule(order(BEST, ENDS)))
TWO = schedule(order(BEST, ENDS, name="prose"), order(BEST, ENDS, name="code"))
SMALL = 0.01 * np.tile([1.0, -1.0], N // 2)  # no rise, on whatever is met


def two(**more: object) -> Race:
    return Race(TWO, weights=(0.5, 0.5), scales=(1.0, 1.0), **more)  # type: ignore[arg-type]


def test_the_rise_is_a_paired_mean_with_the_error_of_a_sample_without_replacement() -> None:
    differences, weights = NOISE[0, :10], np.arange(1.0, 11)
    found, known = (
        Rise.of(differences, np.append(weights, np.ones(N - 10))),
        document_mean(differences, weights, np.arange(10)),
    )
    assert known.error is not None
    assert found.value == pytest.approx(known.value)
    assert found.error == pytest.approx(known.error * math.sqrt(1 - 10 / N))
    assert found.freedom == pytest.approx(known.freedom)
    many = Rise.of(np.stack([differences] * 3), np.append(weights, np.ones(N - 10)))
    assert np.allclose(many.error, found.error)


def test_what_is_known_of_all_units_foretells_those_that_were_not_met() -> None:
    """A weighted regression, and exact where differences are sums of those that are known."""
    weights, known, draw = np.linspace(1, 3, N), NOISE[:2], np.random.default_rng(2)
    trial = 0.3 * known[0] - known[1] + 0.1 * draw.normal(size=N) + 0.05
    found, met = Rise.of(trial[:24], weights, known), np.arange(N) < 24
    columns = np.column_stack([np.ones(24), known[:, :24].T])
    root = np.sqrt(weights[met])
    fit = np.linalg.lstsq(columns * root[:, None], trial[:24] * root, rcond=None)[0]
    mean = np.average(known, axis=1, weights=weights)
    assert found.value == pytest.approx(fit @ [1, *mean], abs=1e-5)
    assert found.error < 0.5 * Rise.of(trial[:24], weights).error
    exact = Rise.of((known[0] + 2 * known[1])[:24], weights, known)
    assert exact.value == pytest.approx(mean @ [1, 2], abs=1e-4)


def test_what_foretells_nothing_is_left_alone() -> None:
    plain = Rise.of(NOISE[0, :24], np.ones(N))
    found = Rise.of(NOISE[0, :24], np.ones(N), np.zeros((3, N)))
    assert found.value == plain.value
    assert found.error <= plain.error * (1 + 1e-12)


def test_a_foretold_rise_is_as_far_off_as_its_error_says() -> None:
    draw = np.random.default_rng(1)
    trial = 0.3 * NOISE[0] - NOISE[1] + 0.3 * NOISE[2]
    place = draw.permuted(np.tile(np.arange(N), (4000, 1)), axis=1)
    known = NOISE[:2][:, place].transpose(1, 0, 2)
    found = Rise.of(trial[place][:, :24], np.ones(N), known)
    off = found.value - trial.mean()
    assert np.mean(off**2) <= np.mean(found.error**2) <= 1.5 * np.mean(off**2)
    assert abs(off.mean()) < 0.2 * off.std()


def test_the_rise_is_as_far_off_as_its_error_says() -> None:
    """Over all orders of some numbers: the error's square is the variance on average."""
    draw = np.random.default_rng(1)
    orders = draw.permuted(np.tile(NOISE[0], (4000, 1)), axis=1)
    found = Rise.of(orders[:, :10], np.ones(N))
    assert np.mean(found.error**2) == pytest.approx(np.var(found.value), rel=0.1)


def test_sets_are_pooled_as_independent() -> None:
    one, other = (Rise.of(NOISE[i, :10], np.ones(10**6)) for i in (0, 1))
    found = Rise.pooled([one, other], [1.0, -1.0])
    welch = stats.ttest_ind(NOISE[0, :10], NOISE[1, :10], equal_var=False)
    assert found.value / found.error == pytest.approx(welch.statistic, rel=1e-4)
    assert found.freedom == pytest.approx(welch.df, rel=1e-4)


def test_a_tail_that_points_down_takes_from_a_rise() -> None:
    """What was met of it says that there may be more."""
    up = np.array([-1.0, -1, -1, -1, -1, -1, -1, 9])
    above, below = (Rise.of(sign * up + 2, np.ones(100)) for sign in (1, -1))
    assert above.skew == pytest.approx(-below.skew)
    assert above.skew == pytest.approx(stats.skew(up) / math.sqrt(8) * math.sqrt(0.92))
    levels = [0.001, 0.005, 0.01, 0.05, 0.2]
    assert [bool(above.exceeds_zero(p)) for p in levels] == [stats.t.sf(
        float(above.value / above.error), 7) < p for p in levels]  # fmt: skip
    assert not any(below.exceeds_zero(p) for p in levels)


@pytest.mark.parametrize("rise", [0.0, 0.005, 0.007, 0.01, 0.02])
def test_a_trial_is_stopped_by_a_paired_test(rise: float) -> None:
    trial, m = BEST + SMALL + rise, 10
    found = stats.ttest_1samp((trial - BEST)[:m], 0, alternative="greater")
    harder = math.sqrt(max(1, np.mean(BEST[m:] ** 2) / np.mean(BEST[:m] ** 2)))
    t = found.statistic / math.sqrt(1 - m / N) / harder
    naive = stats.t.sf(t, m - 1) < LEVEL / 2
    assert ONE.is_worse((trial[:m],), 0, [(BEST,)]) == naive


def test_a_trial_is_not_stopped_before_the_units_that_are_hard_for_its_rival() -> None:
    """A classifier that is less sure everywhere, and that is right where its rival is wrong."""
    hard = np.where(np.arange(N) < 30, 0.01, 4.0)
    race = Race(schedule(order(hard, (10, 20, 40))))
    trial = np.where(hard > 1, 2.0, 0.05) + 0.1 * SMALL
    assert race.value((trial,)) < race.value((hard,))
    assert not any(race.is_worse((trial[:m],), look, [(hard,)]) for look, m in ((0, 10), (1, 20)))
    easy = Race(schedule(order(hard[:30], (10, 20, 30))))
    assert easy.is_worse((trial[:10],), 0, [(hard[:30],)])


def test_a_trial_is_not_stopped_before_the_units_that_set_models_apart() -> None:
    memorised = np.arange(N) >= 30
    race, rival = Race(schedule(order(BEST - 2 * memorised, ENDS))), (BEST + SMALL,)
    trial = BEST + SMALL[::-1] + 0.1 - 1.0 * memorised
    assert race.value((trial,)) < race.value(rival)
    assert not race.is_worse((trial[:10],), 0, [rival])
    assert ONE.is_worse((trial[:10],), 0, [rival])


def test_no_trial_is_stopped_at_the_last_look_or_without_a_rival() -> None:
    bad = (BEST + 9 + SMALL,)
    assert not ONE.is_worse(bad, 2, [(BEST,)])
    assert not ONE.is_worse((bad[0][:10],), 0, [])
    assert ONE.is_worse((bad[0][:10],), 0, [(BEST,)])


def test_a_loss_that_is_not_a_number_stops_a_trial() -> None:
    broken = (np.full(10, np.nan),)
    assert ONE.is_worse(broken, 0, [(BEST,)])
    assert ONE.told(broken, [(BEST,)]) == math.inf


def test_the_worst_set_is_compared_with_the_rivals_worst() -> None:
    """Better on one set and as bad on the other as the rival's worst: no reason to stop."""
    race, rival = two(aim=AimConfig("worst")), (BEST + 0.5, BEST)
    swapped = ((BEST + SMALL)[:10], (BEST + 0.5 + SMALL)[:10])
    assert not race.is_worse(swapped, 0, [rival])
    assert two(aim=AimConfig("mean")).is_worse((swapped[0] + 0.1, swapped[1]), 0, [rival])
    assert race.is_worse((swapped[0], swapped[1] + 0.1), 0, [rival])


def test_a_mean_weighs_sets_and_scales() -> None:
    race = Race(TWO, AimConfig("weighted"), weights=(0.9, 0.1), scales=(1.0, 100.0))
    trial = (BEST - 0.2 + SMALL, BEST + 100 + SMALL)
    mean = (SMALL.mean() - 0.2) * 0.9 + (100 + SMALL.mean()) / 100 * 0.1
    assert race.value(trial) == pytest.approx(mean)
    assert race.interval(trial).value == pytest.approx(mean)
    assert not race.is_worse((trial[0][:10], trial[1][:10]), 0, [(BEST, BEST)])
    assert race.is_worse((trial[0][:10], 2 * trial[1][:10]), 0, [(BEST, BEST)])


def test_a_point_of_the_front_stops_what_it_dominates() -> None:
    race, front = two(pareto=True), [(BEST - 1, BEST + 1), (BEST + 1, BEST - 1)]
    between, beyond = (BEST + SMALL)[:10], (BEST + 2 + SMALL)[:10]
    assert not race.is_worse((between, between), 0, front)
    assert not race.is_worse((between, (BEST + 1 + SMALL)[:10] - 0.1), 0, front)
    assert race.is_worse((between, beyond), 0, front)
    told = race.told_values((between, beyond), front)
    assert all(a > b for a, b in zip(told, race.values(front[0]), strict=True))


def test_a_trial_that_loses_a_kept_set_is_stopped_and_is_no_rival() -> None:
    keeping, rival = two(aim=AimConfig("mean", keep=["code"])), (BEST, BEST)
    trial = (BEST - 1 + SMALL, BEST + 0.5 + SMALL)
    some = (trial[0][:10], trial[1][:10])
    assert not two().is_worse(some, 0, [rival])
    assert keeping.is_worse(some, 0, [rival])
    assert keeping.told(some, [rival]) == keeping.value(rival)
    assert keeping.lost(trial) == pytest.approx(0.5 + SMALL.mean())
    assert keeping.lost((trial[1], trial[0])) == 0
    assert not keeping.is_worse((BEST[:10] + 9, BEST[:10]), 0, [trial])


def test_a_stopped_trial_counts_its_mean_as_its_rival_would_be_told_from_its_own() -> None:
    trial = BEST + 0.3 + SMALL
    told = ONE.told((trial[:10],), [(BEST,)])
    assert told == pytest.approx(BEST.mean() + 0.3 + SMALL[:10].mean())
    assert abs(told - trial.mean()) < abs(trial[:10].mean() - trial.mean())
    assert ONE.told((BEST[:10] - 5,), [(BEST,)]) == ONE.value((BEST,)) == BEST.mean()


def test_what_a_trial_counts_is_what_the_aim_of_a_merge_says() -> None:
    found = two(aim=AimConfig("worst"))
    trial = (BEST + 0.2 + SMALL, BEST + 0.1)
    assert found.value(trial) == pytest.approx(0.2 + SMALL.mean())
    assert found.values(trial) == pytest.approx((0.2 + SMALL.mean(), 0.1))
    assert ONE.values((BEST,)) == (BEST.mean(),)
    interval = ONE.interval((BEST,))
    assert interval.low is not None
    assert interval.low < BEST.mean()
