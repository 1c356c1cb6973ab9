"""The geometric median from inner products, against Weiszfeld's iteration on the vectors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.median import GeometricMedian

SEEDS = st.integers(0, 10_000)


def naive(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weiszfeld 1937 on the vectors; no row may be where the iteration passes."""
    point = weights @ rows / weights.sum()
    for _ in range(20_000):
        pulls = weights / np.linalg.norm(rows - point, axis=1)
        before, point = point, pulls @ rows / pulls.sum()
        if np.abs(point - before).max() < 1e-14:
            break
    return np.asarray(point)


def total(point: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> float:
    return float(weights @ np.linalg.norm(rows - point, axis=1))


def median(rows: np.ndarray, weights: tuple[float, ...]) -> np.ndarray:
    found = GeometricMedian(weights).coefficients(Gram.of(rows))
    assert sum(found.values) == pytest.approx(1)
    return np.asarray(found.values) @ rows


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(3, 6))
def test_it_is_weiszfelds_point(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    rows = 5 + draw.normal(size=(count, 40))  # nearly at equal distances: none is the median
    weights = draw.uniform(0.8, 1.2, size=count)
    np.testing.assert_allclose(median(rows, tuple(weights)), naive(rows, weights), atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(3, 6))
def test_no_other_point_is_nearer_to_all(seed: int, count: int) -> None:
    """In few dimensions, with weights of all sizes, where models often are the median."""
    draw = np.random.default_rng(seed)
    rows, weights = draw.normal(size=(count, 2)), draw.uniform(0, 1, size=count)
    point = median(rows, tuple(weights))
    least = total(point, rows, weights)
    around = [point + step * draw.normal(size=(20, 2)) for step in (1e-3, 1e-2, 1e-1)]
    assert all(total(x, rows, weights) > least - 1e-9 for x in np.concatenate([*around, rows]))


def test_a_model_that_outweighs_the_pull_of_the_others_is_the_median_to_the_bit() -> None:
    rows = np.random.default_rng(0).normal(size=(4, 30))
    found = GeometricMedian((0.1, 0.3, 0.9, 0.2)).coefficients(Gram.of(rows))
    assert found.values == (0.0, 0.0, 1.0, 0.0)
    assert found.branch == "geometric_median: one of the models"


def test_models_that_coincide_pull_together() -> None:
    a, b, c = np.random.default_rng(1).normal(size=(3, 30))
    for rows in ([a, b, c, b], [b, a, b, c]):
        assert median(np.stack(rows), (1, 1, 1, 1)).tolist() == b.tolist()
    assert median(np.stack([a, a, a]), (1, 1, 1)).tolist() == a.tolist()
    assert median(np.zeros((3, 4)), (1, 2, 1)).tolist() == [0] * 4


def test_a_mean_that_falls_on_a_model_is_left_again() -> None:
    """The third is the mean of the others, and light: its pull cannot hold the point."""
    rows = np.array([[0.0, 0.0], [4.0, 0.0], [1.0, 1.0], [0.0, 4.0], [0.0, 0.0]])
    weights = np.array([0.25, 0.25, 0.01, 0.25, 0.25])
    start = weights @ rows / weights.sum()
    rows[2] = np.delete(weights, 2) @ np.delete(rows, 2, 0) / (weights.sum() - 0.01)
    np.testing.assert_allclose(weights @ rows / weights.sum(), rows[2], atol=1e-15)
    assert not np.allclose(start, median(rows, tuple(weights)))
    heavier = naive(rows + 1e-9 * np.eye(5, 2), weights)
    np.testing.assert_allclose(median(rows, tuple(weights)), heavier, atol=1e-6)


def test_between_two_equal_models_it_is_the_mean() -> None:
    a, b, c, d = np.arange(4)[:, None] * np.ones((4, 5))
    np.testing.assert_allclose(median(np.stack([a, b]), (1, 1)), 0.5)
    assert median(np.stack([a, b]), (1, 2)).tolist() == b.tolist()
    on_a_line = median(np.stack([a, d, c, b]), (1, 1, 1, 1))
    assert 1 <= on_a_line[0] <= 2


def test_an_outlier_moves_it_little() -> None:
    draw = np.random.default_rng(2)
    rows = draw.normal(size=(5, 50))
    near, far = rows.copy(), rows.copy()
    near[4], far[4] = 10 * rows[4], 1e6 * rows[4]
    moved = np.linalg.norm(median(near, (1,) * 5) - median(far, (1,) * 5))
    assert moved < 1 < np.linalg.norm((near - far).mean(0))


def test_a_loose_tolerance_stops_early() -> None:
    rows = np.array([[0.0, 0.0], [3.0, 0.0], [1.0, 9.0]])
    exact = naive(rows, np.ones(3))
    errors = [
        np.linalg.norm(
            np.asarray(GeometricMedian((1, 1, 1), tol).coefficients(Gram.of(rows)).values) @ rows
            - exact
        )
        for tol in (0.3, 1e-3, 1e-9)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert GeometricMedian((1, 1, 1), 0.0).coefficients(Gram.of(rows)).branch in {
        "geometric_median", "geometric_median: not converged",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("weights", "tolerance", "said"),
    [
        ((1, -0.5, 1), 1e-9, "a median needs weights >= 0, found -0.5"),
        ((1, 1, 1), 1.0, r"tolerance must lie in \[0, 1\), found 1"),
    ],
)
def test_what_is_refused(weights: tuple[float, ...], tolerance: float, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        GeometricMedian(weights, tolerance)
