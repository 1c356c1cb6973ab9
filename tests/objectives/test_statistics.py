"""Intervals mean what they say; the whole study is `scripts/coverage.py`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mergekit_geo.objectives.losses import Floats, Indices, Losses
from mergekit_geo.objectives.statistics import (
    Estimate,
    degrees_of_freedom,
    estimate,
    mean_loss,
    paired_difference,
)


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
    found = paired_difference(losses, losses)
    assert (found.value, *bounds(found), found.is_significant) == (0, 0, 0, False)


def test_pairing_takes_out_what_documents_share() -> None:
    draw = np.random.default_rng(4)
    values, weights, document = windows(draw, 30, spread=1.0)
    better = Losses(values - 0.1 + draw.normal(0, 0.02, size=len(values)), weights, document)
    found = paired_difference(better, Losses(values, weights, document))
    assert found.is_significant
    assert found.value == pytest.approx(-0.1, abs=0.01)
    assert np.diff(bounds(found)) < 0.1 * np.diff(bounds(mean_loss(better)))


def test_a_document_without_weight_does_not_count() -> None:
    values, weights = np.array([1.0, 2, 3, 4, 5, 99]), np.array([1.0, 1, 1, 1, 1, 0])
    found = estimate(values, weights, np.arange(6))
    assert found == estimate(values[:5], weights[:5], np.arange(5))
    assert found.documents == 5


def test_no_interval_from_few_documents_or_values_that_are_not_finite() -> None:
    few = estimate(np.arange(8.0), np.ones(8), np.arange(8) // 2)
    assert few == Estimate(3.5, None, None, 4)
    assert few.is_significant is None
    broken = estimate(np.array([1, 2, 3, 4, np.nan]), np.ones(5), np.arange(5))
    assert np.isnan(broken.value)
    assert broken.is_significant is None
