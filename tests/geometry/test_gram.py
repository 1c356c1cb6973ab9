"""Norms, distances and angles from a Gram matrix, against the vectors themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mergekit_geo.geometry.gram import Gram

VECTORS = arrays(
    np.float64, st.tuples(st.integers(1, 4), st.integers(2, 9)), elements=st.floats(-10, 10)
)


@given(VECTORS)
def test_norms_and_distances_are_those_of_the_vectors(rows: np.ndarray) -> None:
    gram = Gram.of(rows)
    np.testing.assert_allclose(gram.norms, np.linalg.norm(rows, axis=1), atol=1e-6)
    gaps = np.linalg.norm(rows[:, None] - rows[None, :], axis=2)
    np.testing.assert_allclose(gram.distances, gaps, atol=1e-6)


@pytest.mark.parametrize("stretch", [1, 7])
@pytest.mark.parametrize("angle", [1e-4, 1e-3, 0.5, 1.5, 3.0, np.pi - 1e-3])
def test_angle_keeps_its_digits(angle: float, stretch: float) -> None:
    draw = np.random.default_rng(0)
    first = draw.normal(size=50)
    other = draw.normal(size=50)
    other -= first * (other @ first) / (first @ first)
    first, other = first / np.linalg.norm(first), other / np.linalg.norm(other)
    turned = stretch * (np.cos(angle) * first + np.sin(angle) * other)
    assert Gram.of(np.stack([first, turned])).angles[0, 1] == pytest.approx(angle, rel=1e-7)


def test_fine_tunes_close_together_keep_their_distance() -> None:
    draw = np.random.default_rng(0)
    base = draw.normal(size=10_000)
    near = base + 1e-7 * draw.normal(size=10_000)
    true = np.linalg.norm(near - base)
    assert Gram.of(np.stack([base, near])).distances[0, 1] == pytest.approx(true, rel=1e-7)


def test_sum_over_chunks_is_the_whole() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 20))
    whole, parts = Gram.of(rows), Gram.of(rows[:, :7]) + Gram.of(rows[:, 7:])
    np.testing.assert_allclose(parts.differences, whole.differences)
    assert parts.count == 20


def test_many_rows_at_once_are_each_its_own() -> None:
    rows = np.random.default_rng(0).normal(size=(6, 3, 8))
    rows[2, 1] = 0.0
    grams = [Gram.of(anchors) for anchors in rows]
    together = Gram(np.stack([gram.differences for gram in grams]), 8)
    for name in ("norms", "distances", "angles", "cosines"):
        each = np.stack([getattr(gram, name) for gram in grams])
        assert getattr(together, name).tolist() == each.tolist()


def test_zero_vector_has_no_angle_and_no_error() -> None:
    gram = Gram.of(np.array([[0.0, 0.0], [1.0, 0.0]]))
    assert gram.angles.tolist() == [[0, 0], [0, 0]]
    assert gram.norms.tolist() == [0, 1]
