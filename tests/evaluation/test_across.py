"""The mean over independent sets, beside naive references; the study is a benchmark."""

import numpy as np
import pytest
from scipy import stats

from mergekit_geo.evaluation.across import mean_of
from mergekit_geo.evaluation.statistics import DocumentMean, document_mean
from mergekit_geo.records.losses import Estimate


def a_set(draw: np.random.Generator, documents: int, spread: float) -> DocumentMean:
    """Mean of normal values around 0, a document each, of unlike lengths."""
    weights = draw.uniform(1, 3, size=documents)
    values = draw.normal(0, spread, size=documents)
    return document_mean(values, weights, np.arange(documents))


def test_one_set_is_its_own_estimate() -> None:
    one = a_set(np.random.default_rng(0), 9, 1.0)
    assert mean_of([one]) == one.estimate


def test_two_sets_of_equal_weights_have_welchs_interval() -> None:
    """Half the difference of two means, one with its sign turned, is their mean."""
    draw = np.random.default_rng(1)
    first, second = draw.normal(1, 1, size=12), draw.normal(3, 4, size=7)
    sets = [document_mean(one, np.ones(len(one)), np.arange(len(one))) for one in (first, second)]
    found = mean_of(sets)
    welch = stats.ttest_ind(first, -second, equal_var=False).confidence_interval(0.95)
    assert found.value == pytest.approx((first.mean() + second.mean()) / 2)
    assert (found.low, found.high) == pytest.approx((welch.low / 2, welch.high / 2))


def test_a_set_without_doubt_adds_none() -> None:
    one = a_set(np.random.default_rng(2), 9, 1.0)
    same = document_mean(np.full(6, 2.0), np.ones(6), np.arange(6))
    found, alone = mean_of([one, same]), one.estimate
    assert alone.low is not None
    assert alone.high is not None
    assert found.value == pytest.approx((one.value + 2) / 2)
    assert (found.low, found.high) == pytest.approx((1 + alone.low / 2, 1 + alone.high / 2))
    assert mean_of([same, same]) == Estimate(value=2.0, low=2.0, high=2.0, detectable=0.0)


def test_weights_are_those_of_a_weighted_mean() -> None:
    """Beside the variance of a sum, and whatever they sum to; a set of weight 0 says nothing."""
    draw = np.random.default_rng(4)
    sets = [a_set(draw, 8, 1.0), a_set(draw, 30, 3.0)]
    found = mean_of(sets, [3, 1])
    error = np.hypot(0.75 * (sets[0].error or 0), 0.25 * (sets[1].error or 0))
    parts = [(0.75 * (sets[0].error or 0)) ** 2, (0.25 * (sets[1].error or 0)) ** 2]
    freedom = sum(parts) ** 2 / sum(p**2 / s.freedom for p, s in zip(parts, sets, strict=True))
    assert found.value == pytest.approx(0.75 * sets[0].value + 0.25 * sets[1].value)
    margin = error * stats.t.ppf(0.975, freedom)
    assert (found.low, found.high) == pytest.approx((found.number - margin, found.number + margin))
    assert mean_of(sets, [6, 2]) == found
    few = document_mean(np.arange(3.0), np.ones(3), np.arange(3))
    assert mean_of([sets[0], few], [1, 0]) == sets[0].estimate


@pytest.mark.parametrize("values", [np.arange(3.0), np.array([1, 2, 3, 4, np.nan])])
def test_a_set_without_an_interval_leaves_none(values: np.ndarray) -> None:
    """Too few documents, or a loss that is not finite."""
    one = a_set(np.random.default_rng(3), 9, 1.0)
    found = mean_of([one, document_mean(values, np.ones(len(values)), np.arange(len(values)))])
    assert (found.low, found.high, found.is_significant) == (None, None, None)


@pytest.mark.parametrize("sizes", [(5, 5), (5, 60), (8, 12, 20)])
def test_covers_the_truth_as_often_as_it_says(sizes: tuple[int, ...]) -> None:
    """Of sets whose spreads differ tenfold."""
    draw, covered, rounds = np.random.default_rng(sizes), 0, 600
    for _ in range(rounds):
        sets = [a_set(draw, size, 10.0**-i) for i, size in enumerate(sizes)]
        covered += not mean_of(sets).is_significant
    assert 0.93 <= covered / rounds <= 0.975
