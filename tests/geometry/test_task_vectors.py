"""Rules on task vectors and the mergekit means, against formulas on whole vectors."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergekit_geo.errors import AntipodalError, ArgumentError
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.linear import normalized
from mergekit_geo.geometry.model_stock import model_stock
from mergekit_geo.geometry.multislerp import MultiSlerp, nuslerp
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.geometry.sphere import Slerp
from mergekit_geo.geometry.task_vectors import FromBase, task_arithmetic, task_gram

SEEDS = st.integers(0, 10_000)


def models(seed: int, count: int, spread: float = 0.1) -> np.ndarray:
    """A base of norm about 3 and `count` models a little off it."""
    draw = np.random.default_rng(seed)
    base = draw.normal(size=(1, 9))
    return np.concatenate([base, base + spread * draw.normal(size=(count, 9))])


def applied(rule: Rule, rows: np.ndarray) -> np.ndarray:
    return np.asarray(rule.coefficients(Gram.of(rows)).values) @ rows


def naive_stock(base: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Jang 2024, eq. 7, with the mean cosine of all pairs."""
    offsets = others - base
    cosine = np.mean([
        a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in combinations(offsets, 2)
    ])  # fmt: skip
    k = len(others)
    t = k * cosine / (1 + (k - 1) * cosine)
    return t * others.mean(axis=0) + (1 - t) * base


def naive_multislerp(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Step by step: tangent space at the mean direction, average, exponential map."""
    norms = np.linalg.norm(rows, axis=1)
    units = rows / norms[:, None]
    mean = weights @ units
    mean = mean / np.linalg.norm(mean)
    tangent = weights @ (units - (units @ mean)[:, None] * mean)
    length = np.linalg.norm(tangent)
    moved = np.cos(length) * mean + np.sinc(length / np.pi) * tangent
    return weights @ norms * moved


@pytest.mark.parametrize("weights", [(0.0, 0.0), (1.0, -1.0)])
def test_weights_that_sum_to_zero_are_not_normalized(weights: tuple[float, float]) -> None:
    """As in TIES and mergekit: all zero, as a gradient's end may be, is the base."""
    assert task_arithmetic(weights, normalize=True) == task_arithmetic(weights)


@given(SEEDS, st.integers(1, 4), st.floats(-2, 2), st.booleans())
def test_task_arithmetic_is_the_formula(seed: int, k: int, scale: float, normalize: bool) -> None:
    rows = models(seed, k)
    weights = np.random.default_rng(seed).uniform(0.1, 1, k)
    used = weights / weights.sum() if normalize else weights
    expected = rows[0] + scale * used @ (rows[1:] - rows[0])
    np.testing.assert_allclose(
        applied(task_arithmetic(weights.tolist(), scale, normalize), rows), expected, atol=1e-12
    )


@given(SEEDS, st.integers(2, 5))
def test_model_stock_is_the_formula(seed: int, k: int) -> None:
    rows = models(seed, k)
    rows[1:] += 0.1  # something learned in common
    np.testing.assert_allclose(
        applied(model_stock(k), rows), naive_stock(rows[0], rows[1:]), atol=1e-8
    )


def test_model_stock_of_equal_models_is_that_model() -> None:
    rows = models(1, 1)[[0, 1, 1, 1]]
    np.testing.assert_allclose(applied(model_stock(3), rows), rows[1], atol=1e-12)


def test_model_stock_where_nothing_was_learned_in_common_is_the_base() -> None:
    base = np.ones((1, 3))
    rows = np.concatenate([base, base + np.eye(3)[:1], base - np.eye(3)[:1]])
    found = model_stock(2).coefficients(Gram.of(rows))
    assert found.values == (1.0, 0.0, 0.0)
    assert found.branch == "model_stock: balanced, the base"


def test_model_stock_needs_two_models() -> None:
    with pytest.raises(ArgumentError, match="two models or more beside the base, found 1"):
        model_stock(1)


@given(SEEDS, st.integers(2, 5))
def test_multislerp_is_the_tangent_mean(seed: int, k: int) -> None:
    rows = models(seed, k)[1:]
    weights = np.random.default_rng(seed).uniform(0.1, 1, k)
    used = weights / weights.sum()
    rule = MultiSlerp(tuple(used.tolist()))
    np.testing.assert_allclose(applied(rule, rows), naive_multislerp(rows, used), atol=1e-9)


@given(SEEDS, st.integers(2, 4))
def test_multislerp_of_task_vectors(seed: int, k: int) -> None:
    rows = models(seed, k)
    weights = np.full(k, 1 / k)
    expected = rows[0] + naive_multislerp(rows[1:] - rows[0], weights)
    found = applied(FromBase(MultiSlerp(tuple(weights.tolist()))), rows)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_multislerp_leaves_out_a_zero() -> None:
    rows = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0]])
    found = MultiSlerp((0.2, 0.4, 0.4)).coefficients(Gram.of(rows)).values
    np.testing.assert_allclose(found @ rows, np.array([1.0, 1.0]) * 2.4 / np.sqrt(2), atol=1e-12)


def test_multislerp_of_directions_that_balance_out() -> None:
    rows = np.array([[1.0, 0.0], [-2.0, 0.0]])
    assert MultiSlerp((0.5, 0.5)).coefficients(Gram.of(rows)).branch == "linear: antipodal"
    third = np.array([[1.0, 0.0], [-0.5, 3**0.5 / 2], [-0.5, -(3**0.5) / 2]])
    with pytest.raises(AntipodalError, match="sum to zero"):
        MultiSlerp(normalized([1, 1, 1])).coefficients(Gram.of(third))


@given(SEEDS, st.floats(0.05, 0.95))
def test_nuslerp_is_slerp_of_task_vectors(seed: int, t: float) -> None:
    rows = models(seed, 2)
    tasks = rows[1:] - rows[0]
    expected = rows[0] + np.asarray(Slerp(t).coefficients(Gram.of(tasks)).values) @ tasks
    found = applied(FromBase(nuslerp([2 * (1 - t), 2 * t])), rows)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_nuslerp_takes_two() -> None:
    with pytest.raises(ArgumentError, match="nuslerp merges two models, found 3"):
        nuslerp([1, 1, 1])


@given(SEEDS, st.integers(1, 5))
def test_gram_of_task_vectors(seed: int, k: int) -> None:
    rows = models(seed, k)
    tasks = rows[1:] - rows[0]
    np.testing.assert_allclose(
        task_gram(Gram.of(rows)).differences, Gram.of(tasks).differences, atol=1e-12
    )


def test_statistics_stay_between_the_anchors() -> None:
    rule = task_arithmetic([1.0, 1.0])
    assert rule.weights == (-1.0, 1.0, 1.0)
    assert rule.convex == (0.0, 0.5, 0.5)
