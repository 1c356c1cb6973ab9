"""SLERP and the Karcher mean from inner products, against formulas on the vectors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergekit_geo.errors import AntipodalError, ArgumentError
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.sphere import Karcher, Slerp, slerp_or_karcher

SEEDS = st.integers(0, 10_000)
UNIT = st.floats(0, 1)


def vectors(seed: int, count: int, size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size))


def directions(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def naive_slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Shoemake 1985, from arccos of the vectors' own cosine."""
    theta = math.acos(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    return (math.sin((1 - t) * theta) * a + math.sin(t * theta) * b) / math.sin(theta)


@given(SEEDS, UNIT)
def test_slerp_is_the_naive_formula(seed: int, t: float) -> None:
    rows = vectors(seed, 2)
    coefficients = Slerp(t).coefficients(Gram.of(rows)).values
    np.testing.assert_allclose(coefficients @ rows, naive_slerp(*rows, t), atol=1e-6)


@given(SEEDS, UNIT)
def test_slerp_of_unit_vectors_stays_unit(seed: int, t: float) -> None:
    rows = directions(vectors(seed, 2))
    coefficients = Slerp(t).coefficients(Gram.of(rows)).values
    assert np.linalg.norm(coefficients @ rows) == pytest.approx(1, abs=1e-9)


@given(SEEDS, UNIT)
def test_slerp_is_the_same_from_either_end(seed: int, t: float) -> None:
    rows = vectors(seed, 2)
    there = Slerp(t).coefficients(Gram.of(rows)).values
    back = Slerp(1 - t).coefficients(Gram.of(rows[::-1])).values
    np.testing.assert_allclose(there, back[::-1], atol=1e-9)


@pytest.mark.parametrize(("t", "values"), [(0.0, (1.0, 0.0)), (1.0, (0.0, 1.0))])
def test_slerp_ends_are_exact(t: float, values: tuple[float, float]) -> None:
    assert Slerp(t).coefficients(Gram.of(vectors(1, 2))).values == values


@pytest.mark.parametrize("t", [-0.1, 1.1, math.nan])
def test_t_outside_is_refused(t: float) -> None:
    with pytest.raises(ArgumentError, match=r"t must lie in \[0, 1\]"):
        Slerp(t)


@pytest.mark.parametrize(
    ("rows", "branch"),
    [
        ([[2.0], [-3.0]], "linear: one element"),
        ([[0.0, 0.0], [1.0, 2.0]], "linear: zero norm"),
        ([[1.0, 2.0], [1.5, 3.0]], "linear: parallel"),
    ],
)
def test_tensors_without_an_arc_go_straight(rows: list[list[float]], branch: str) -> None:
    found = Slerp(0.25).coefficients(Gram.of(np.array(rows)))
    assert (found.values, found.branch) == ((0.75, 0.25), branch)


def test_opposite_tensors_are_an_error_or_a_straight_line() -> None:
    gram = Gram.of(np.array([[1.0, 2.0], [-2.0, -4.0]]))
    with pytest.raises(AntipodalError, match=r"no unique arc.*--antipodal linear"):
        Slerp(0.5).coefficients(gram)
    found = Slerp(0.5, "linear").coefficients(gram)
    assert (found.values, found.branch) == ((0.5, 0.5), "linear: antipodal")


@given(SEEDS, st.integers(2, 5))
def test_karcher_mean_is_stationary(seed: int, count: int) -> None:
    """The weighted logarithms at the mean sum to zero (Karcher 1977)."""
    rows = vectors(seed, count, size=40) + 2  # within an open half-sphere
    weights = np.random.default_rng(seed).uniform(0.1, 1, size=count)
    merged = Karcher(tuple(weights)).coefficients(Gram.of(rows)).values @ rows
    mean = merged / np.linalg.norm(merged)
    tangent = np.zeros_like(mean)
    for weight, u in zip(weights, directions(rows), strict=True):
        theta = math.acos(np.clip(u @ mean, -1, 1))
        tangent += weight * theta / max(math.sin(theta), 1e-12) * (u - (u @ mean) * mean)
    assert np.linalg.norm(tangent) < 1e-6


@given(SEEDS)
def test_karcher_norm_is_the_mean_norm(seed: int) -> None:
    rows = vectors(seed, 3, size=40) + 2
    merged = Karcher((1, 2, 3)).coefficients(Gram.of(rows)).values @ rows
    assert np.linalg.norm(merged) == pytest.approx(
        np.array([1, 2, 3]) @ np.linalg.norm(rows, axis=1) / 6
    )


@given(SEEDS, UNIT)
def test_karcher_of_two_unit_vectors_is_slerp(seed: int, t: float) -> None:
    gram = Gram.of(directions(vectors(seed, 2)))
    np.testing.assert_allclose(
        Karcher((1 - t, t)).coefficients(gram).values, Slerp(t).coefficients(gram).values, atol=1e-6
    )


def test_karcher_refuses_negative_weights() -> None:
    with pytest.raises(ArgumentError, match="weights >= 0, found -1"):
        Karcher((1, -1, 1))


def test_karcher_of_opposite_tensors() -> None:
    gram = Gram.of(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]))
    with pytest.raises(AntipodalError, match="no unique arc"):
        Karcher((1, 1, 1)).coefficients(gram)
    assert Karcher((1, 1, 1), "linear").coefficients(gram).branch == "linear: antipodal"


def test_karcher_of_vectors_that_cancel() -> None:
    around = [[math.cos(a), math.sin(a)] for a in (0, 2 * math.pi / 3, 4 * math.pi / 3)]
    with pytest.raises(AntipodalError, match="no unique arc"):
        Karcher((1, 1, 1)).coefficients(Gram.of(np.array(around)))


def test_flags_belong_to_the_number_of_models() -> None:
    assert slerp_or_karcher(2, None, None, "error") == Slerp(0.5)
    assert isinstance(slerp_or_karcher(3, None, None, "error"), Karcher)
    with pytest.raises(ArgumentError, match="two models take --t"):
        slerp_or_karcher(2, None, [1, 1], "error")
    with pytest.raises(ArgumentError, match="--t is for two models, found 3"):
        slerp_or_karcher(3, 0.5, None, "error")
    with pytest.raises(ArgumentError, match="two models or more, found 1"):
        slerp_or_karcher(1, None, None, "error")
