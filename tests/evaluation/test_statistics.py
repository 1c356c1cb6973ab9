"""Intervals mean what they say; the whole study is `benchmarks/interval_coverage.py`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import stdtrit

from mergekit_geo.evaluation.macro_f1 import paired_f1
from mergekit_geo.evaluation.statistics import (
    around,
    degrees_of_freedom,
    document_mean,
    estimate,
    mean_loss,
    mean_score,
    paired_difference,
    paired_score,
)
from mergekit_geo.records.losses import Estimate
from mergekit_geo.tasks.losses import Answers, Floats, Indices, Losses


def windows(
    draw: np.random.Generator, documents: int, spread: float = 0.3
) -> tuple[Floats, Floats, Indices]:
    """Values, weights and documents: skewed effects, one to twenty windows each, mean value 1."""
    sizes = np.exp(draw.normal(0.7, 1, size=documents)).round().clip(1, 20).astype(int)
    effect = np.exp(draw.normal(-(spread**2) / 2, spread, size=documents))
    document = np.repeat(np.arange(documents), sizes)
    values = effect[document] + draw.normal(0, 0.3, size=len(document))
    return values, draw.uniform(20, 64, size=len(document)), document


def bounds(found: Estimate) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


@pytest.mark.parametrize("documents", [5, 8, 15, 50])
@pytest.mark.parametrize("sign", [1, -1])
def test_interval_covers_the_truth_as_often_as_it_says(documents: int, sign: int) -> None:
    draw = np.random.default_rng([documents, sign + 1])
    covered = 0
    for _ in range(400):
        values, weights, document = windows(draw, documents)
        low, high = bounds(estimate(sign * values, weights, document))
        covered += low <= sign <= high
    assert 0.92 <= covered / 400 <= 0.985


def naive_degrees_of_freedom(share: Floats) -> float:
    """(sum of eigenvalues)^2 / sum of squared eigenvalues of the error's quadratic form."""
    residual = np.eye(len(share)) - np.outer(np.ones(len(share)), share)
    covariance = residual @ np.diag(1 / share) @ residual.T
    scale = np.diag(share / np.sqrt(1 - share))
    eigenvalues = np.linalg.eigvalsh(scale @ covariance @ scale)
    return float(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())


def naive(values: Floats, weights: Floats, document: Indices) -> tuple[float, float, float]:
    """Leave out one document at a time, in a loop."""
    names = sorted(set(document))
    value = np.average(values, weights=weights)
    error = 0.0
    for name in names:
        rest = document != name
        error += (np.average(values[rest], weights=weights[rest]) - value) ** 2
    error = np.sqrt(error * (len(names) - 1) / len(names))
    share = np.array([weights[document == name].sum() for name in names]) / weights.sum()
    quantile = stats.t.ppf(0.975, naive_degrees_of_freedom(share))
    return float(value), float(value - quantile * error), float(value + quantile * error)


@given(st.integers(5, 30), st.integers(0, 2**32 - 1))
def test_agrees_with_a_loop(documents: int, seed: int) -> None:
    values, weights, document = windows(np.random.default_rng(seed), documents)
    found = estimate(values, weights, document)
    assert (found.value, *bounds(found)) == pytest.approx(naive(values, weights, document))


def test_equal_weights_give_students_interval() -> None:
    values = np.random.default_rng(0).normal(2, 1, size=12)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = estimate(values, np.full(12, 7.0), np.arange(12))
    assert bounds(found) == pytest.approx((expected.low, expected.high))


def test_one_long_document_is_nearly_alone() -> None:
    shares = np.array([0.9, *np.full(20, 0.005)])
    assert 1 < degrees_of_freedom(shares) < 1.5
    assert degrees_of_freedom(np.full(21, 1 / 21)) == pytest.approx(20)


@given(st.integers(0, 2**32 - 1))
def test_order_and_names_do_not_matter(seed: int) -> None:
    draw = np.random.default_rng(seed)
    values, weights, document = windows(draw, 9)
    order = draw.permutation(len(values))
    names = draw.permutation(20)[:9]
    one = estimate(values, weights, document)
    other = estimate(values[order], weights[order], names[document[order]])
    assert bounds(one) == pytest.approx(bounds(other))
    assert one.value == pytest.approx(other.value)


@given(st.floats(-5, 5), st.floats(0.01, 100))
def test_moves_and_scales_with_the_values(shift: float, scale: float) -> None:
    values, weights, document = windows(np.random.default_rng(3), 9)
    low, high = bounds(estimate(values, weights, document))
    expected = (shift + scale * low, shift + scale * high)
    assert bounds(estimate(shift + scale * values, weights, document)) == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 3.0])
def test_equal_values_leave_no_doubt(value: float) -> None:
    weights = np.random.default_rng(1).uniform(1, 9, size=30)
    found = estimate(np.full(30, value), weights, np.arange(30) // 3)
    assert (found.value, *bounds(found)) == (value, value, value)


def test_same_losses_twice_have_exactly_no_difference() -> None:
    values, weights, document = windows(np.random.default_rng(2), 10)
    losses = Losses(values, weights, document)
    found = paired_difference(losses, losses).estimate
    assert (found.value, *bounds(found), found.is_significant) == (0, 0, 0, False)


def test_pairing_takes_out_what_documents_share() -> None:
    draw = np.random.default_rng(4)
    values, weights, document = windows(draw, 30, spread=1.0)
    better = Losses(values - 0.1 + draw.normal(0, 0.02, size=len(values)), weights, document)
    found = paired_difference(better, Losses(values, weights, document)).estimate
    assert found.is_significant
    assert found.value == pytest.approx(-0.1, abs=0.01)
    assert np.diff(bounds(found)) < 0.1 * np.diff(bounds(mean_loss(better).estimate))


def test_a_document_without_weight_does_not_count() -> None:
    values, weights = np.array([1.0, 2, 3, 4, 5, 99]), np.array([1.0, 1, 1, 1, 1, 0])
    found = estimate(values, weights, np.arange(6))
    assert found == estimate(values[:5], weights[:5], np.arange(5))
    assert document_mean(values, weights, np.arange(6)).documents == 5


def test_no_interval_from_few_documents_or_values_that_are_not_finite() -> None:
    few = estimate(np.arange(8.0), np.ones(8), np.arange(8) // 2)
    assert few == Estimate(value=3.5, low=None, high=None)
    assert few.is_significant is None
    broken = estimate(np.array([1, 2, 3, 4, np.nan]), np.ones(5), np.arange(5))
    assert broken.value is None
    assert np.isnan(broken.number)
    assert broken.is_significant is None


def test_the_detectable_size_is_found_four_times_in_five() -> None:
    """A shift of that size, added to noise of 12 documents, leaves zero out in 80 % of draws."""
    draw, found = np.random.default_rng(6), 0
    count, rounds = 12, 2000
    truth = 1 / np.sqrt(count)  # standard error of noise of variance 1
    shift = truth * float(stdtrit(count - 1, 0.975) + stdtrit(count - 1, 0.8))
    for _ in range(rounds):
        values = draw.normal(shift, 1, size=count)
        found += bool(estimate(values, np.ones(count), np.arange(count)).is_significant)
    assert found / rounds == pytest.approx(0.8, abs=0.04)
    one = document_mean(draw.normal(0, 1, size=count), np.ones(count), np.arange(count))
    assert one.error is not None
    assert one.estimate.detectable == pytest.approx(one.error * shift / truth)
    many = document_mean(draw.normal(0, 1, size=9000), np.ones(9000), np.arange(9000))
    assert many.error is not None
    assert many.estimate.detectable == pytest.approx(2.8 * many.error, rel=1e-2)


def test_shares_without_a_miss_are_not_certain() -> None:
    """Twenty right answers of twenty are what a model of 86 % shows once in twenty times."""
    right = Losses(np.ones(20), np.ones(20), np.arange(20), np.ones(20))
    other = Losses(np.full(20, 2.0), np.ones(20), np.arange(20), np.ones(20))
    found, change = mean_score(right), paired_score(right, other)
    same = paired_score(right, right)
    assert same is not None
    assert (same.low, same.high, same.detectable) == (0, 0, 0), "the same model"
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(0.05 ** (1 / 20)), 1.0)
    assert change is not None
    assert (change.low, change.high) == pytest.approx((0.05 ** (1 / 20) - 1, 1 - 0.05 ** (1 / 20)))
    assert change.detectable == pytest.approx(1 - 0.2 ** (1 / 20))
    assert mean_score(Losses(np.ones(20), np.ones(20), np.arange(20))) is None


def test_accuracy_is_paired_over_documents() -> None:
    draw = np.random.default_rng(11)
    document, score = np.arange(120) // 3, draw.integers(0, 2, size=120).astype(float)
    worse = np.where(draw.random(120) < 0.1, 0.0, score)
    first, second = (Losses(score, np.ones(120), document, part) for part in (worse, score))
    found = paired_score(first, second)
    assert found is not None
    assert found == estimate(worse - score, np.ones(120), document)
    assert found.value == pytest.approx(worse.mean() - score.mean())


@pytest.mark.parametrize("labels", [1, 3])
def test_macro_f1_leaves_out_one_document_after_another(labels: int) -> None:
    """Beside the naive jackknife; one class is in a single document, one is never there."""
    draw = np.random.default_rng(5)
    count = 40 * labels
    example = np.arange(count) // labels
    document = np.arange(40) // 2 + 7
    target = draw.integers(0, 4, size=count)
    target[0] = 4
    said = [np.where(draw.random(count) < share, target, 5) for share in (0.9, 0.6)]
    first, second = (
        Losses(np.ones(40), np.ones(40), document, None, Answers(example, target, each))
        for each in said
    )
    found = paired_f1(first, second)
    left = []
    for one in np.unique(document):
        rows = np.flatnonzero(document != one)
        kept = [losses.take(rows).answers for losses in (first, second)]
        left.append(kept[0].macro_f1 - kept[1].macro_f1)
    assert found is not None
    assert first.answers is not None
    assert second.answers is not None
    assert found.value == first.answers.macro_f1 - second.answers.macro_f1
    shift = np.array(left) - found.value
    naive = around(found.value, np.sqrt((1 - 1 / 20) * (shift @ shift)), np.full(20, 2.0 * labels))
    assert bounds(found) == pytest.approx(bounds(naive))
    assert found.detectable == pytest.approx(naive.detectable)
    assert paired_f1(first, Losses(np.ones(40), np.ones(40), document)) is None
