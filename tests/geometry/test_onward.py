"""Paths that start at a merge, against the two merges made one after the other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergekit_geo.geometry.curves import Bezier, rule_at
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.onward import onward
from mergekit_geo.geometry.sphere import Slerp


def naive_slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Shoemake 1985, on unnormalised vectors."""
    theta = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    return (np.sin((1 - t) * theta) * a + np.sin(t * theta) * b) / np.sin(theta)


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1), st.permutations([0, 1, 2]))
def test_arcs_one_after_the_other(seed: int, s: float, t: float, order: list[int]) -> None:
    anchors = np.random.default_rng(seed).normal(size=(3, 8)) + 0.3
    first, second, third = order
    start = onward(onward(Linear(tuple(np.eye(3)[first])), Slerp(s), second), Slerp(t), third)
    found = start.coefficients(Gram.of(anchors))
    point = naive_slerp(anchors[first], anchors[second], s)
    expected = naive_slerp(point, anchors[third], t)
    np.testing.assert_allclose(np.array(found.values) @ anchors, expected, rtol=1e-6, atol=1e-7)
    assert found.branch == "slerp"
    assert start.needs_gram


def test_fine_tunes_that_differ_little_keep_their_digits() -> None:
    draw = np.random.default_rng(0)
    base = draw.normal(size=200)
    anchors = base + 1e-5 * draw.normal(size=(3, 200))
    rule = onward(onward(Linear((1.0, 0.0, 0.0)), Slerp(0.4), 1), Slerp(0.3), 2)
    found = np.array(rule.coefficients(Gram.of(anchors)).values)
    # In so small an angle the arc is its chord: 0.6, 0.4, then 0.7 of these and 0.3.
    np.testing.assert_allclose(found, [0.42, 0.28, 0.3], atol=1e-6)


def test_straight_ways_are_one_soup() -> None:
    rule = onward(onward(Linear((0.0, 1.0, 0.0)), Linear((0.5, 0.5)), 2), Linear((2 / 3, 1 / 3)), 0)
    assert isinstance(rule, Linear)
    assert rule.weights == pytest.approx([1 / 3] * 3)


def test_bends_come_after_the_models() -> None:
    rule = onward(Linear((0.5, 0.5, 0.0)), rule_at(Bezier(1), 0.25), 2)
    assert rule.weights == pytest.approx([0.28125, 0.28125, 0.0625, 0.375])
    assert sum(rule.weights) == pytest.approx(1)
