"""Curves as coefficients over ends and bends."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.curves import (
    Bezier,
    Curve,
    Polygon,
    curve_of,
    length_ratio,
    rule_at,
    start_weights,
)
from mergekit_geo.geometry.gram import Gram

CURVES = [Bezier(1), Bezier(2), Bezier(5), Polygon.even(1), Polygon.even(4)]


def point(curve: Curve, anchors: np.ndarray, t: float) -> np.ndarray:
    return np.array(curve.weights(t)) @ anchors


def de_casteljau(points: list[np.ndarray], t: float) -> np.ndarray:
    while len(points) > 1:
        points = [(1 - t) * p + t * q for p, q in itertools.pairwise(points)]
    return points[0]


@pytest.mark.parametrize("curve", CURVES)
def test_ends_are_exact_and_weights_convex(curve: Curve) -> None:
    bends = (0.0,) * curve.bends
    assert rule_at(curve, 0.0).weights == (1.0, 0.0, *bends)
    assert rule_at(curve, 1.0).weights == (0.0, 1.0, *bends)
    for t in np.linspace(0, 1, 37):
        weights = rule_at(curve, float(t)).weights
        assert min(weights) >= 0
        assert math.fsum(weights) == pytest.approx(1, abs=1e-15)


@given(t=st.floats(0, 1), bends=st.integers(1, 5), seed=st.integers(0, 99))
def test_bezier_is_de_casteljau_s(t: float, bends: int, seed: int) -> None:
    anchors = np.random.default_rng(seed).normal(size=(bends + 2, 3))
    order = [anchors[0], *anchors[2:], anchors[1]]
    np.testing.assert_allclose(point(Bezier(bends), anchors, t), de_casteljau(order, t), atol=1e-12)


@given(t=st.floats(0, 1), bends=st.integers(1, 5), seed=st.integers(0, 99))
def test_polygon_is_piecewise_linear(t: float, bends: int, seed: int) -> None:
    anchors = np.random.default_rng(seed).normal(size=(bends + 2, 3))
    order = np.stack([anchors[0], *anchors[2:], anchors[1]])
    places = np.linspace(0, 1, bends + 2)
    expected = [np.interp(t, places, column) for column in order.T]
    np.testing.assert_allclose(point(Polygon.even(bends), anchors, t), expected, atol=1e-12)


@pytest.mark.parametrize("curve", CURVES)
def test_bends_where_they_start_give_the_segment(curve: Curve) -> None:
    ends = np.random.default_rng(0).normal(size=(2, 4))
    bends = [np.array(weights) @ ends for weights in start_weights(curve)]
    anchors = np.stack([*ends, *bends])
    for t in (0.1, 0.37, 0.5, 0.93):
        np.testing.assert_allclose(
            point(curve, anchors, t), (1 - t) * ends[0] + t * ends[1], atol=1e-12
        )
    assert length_ratio(curve, Gram.of(anchors)) == pytest.approx(1, rel=1e-9)


def test_length_of_a_bezier_is_that_of_its_integral() -> None:
    anchors = np.array([[0.0, 1.0], [4.0, 1.0], [2.0, 5.0]]) + 100
    t = np.linspace(0, 1, 20001)
    speed = 2 * np.outer(1 - t, anchors[2] - anchors[0]) + 2 * np.outer(t, anchors[1] - anchors[2])
    expected = np.trapezoid(np.linalg.norm(speed, axis=1), t) / 4
    assert length_ratio(Bezier(1), Gram.of(anchors)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("t", [-0.1, 1.1, math.nan])
def test_t_outside(t: float) -> None:
    with pytest.raises(ArgumentError, match=r"t must lie in \[0, 1\], found"):
        rule_at(Bezier(1), t)


def test_unknown_curves() -> None:
    with pytest.raises(ArgumentError, match="kind 'spline': expected one of bezier, polygon"):
        curve_of("spline", 1)
    with pytest.raises(ArgumentError, match="at least one bend, found 0"):
        curve_of("bezier", 0)
