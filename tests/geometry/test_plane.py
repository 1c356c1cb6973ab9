"""Planes against coordinates written out with numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.plane import Plane, offsets

Floats = NDArray[np.float64]


def points(seed: int, count: int, spread: float, away: float) -> Floats:
    """Models that are `spread` apart, `away` from 0, the first two of which are nearer."""
    draw = np.random.default_rng(seed)
    found = away * draw.normal(size=40) + spread * draw.normal(size=(count, 40))
    found[1] = found[0] + 0.3 * (found[1] - found[0])
    return np.asarray(found)


CASES = st.tuples(
    st.integers(0, 10_000), st.sampled_from([1e-3, 1.0, 50.0]), st.sampled_from([0.0, 1.0, 100.0])
)


@given(CASES)
@settings(max_examples=40, deadline=None)
def test_coordinates_of_models_have_their_distances(case: tuple[int, float, float]) -> None:
    found = points(case[0], 3, *case[1:])
    gram = Gram.of(found)
    plane = Plane.through_models(gram)
    places = [plane.place(i) for i in (-1, 0, 1)]
    assert [place.off for place in places] == [0, 0, 0]
    for i in range(3):
        for j in range(3):
            apart = np.hypot(places[i].x - places[j].x, places[i].y - places[j].y)
            direct = np.linalg.norm(found[i] - found[j])
            assert apart == pytest.approx(direct, rel=1e-6)
            assert apart == pytest.approx(gram.distances[i, j], rel=1e-6)


@given(CASES)
@settings(max_examples=40, deadline=None)
def test_others_are_projected_as_least_squares_does(case: tuple[int, float, float]) -> None:
    found = points(case[0], 5, *case[1:])
    plane = Plane.through_models(Gram.of(found))
    first = found[1] - found[0]
    first /= np.linalg.norm(first)
    second = found[2] - found[0]
    second -= (second @ first) * first
    second /= np.linalg.norm(second)
    for number in (2, 3):
        offset = found[number + 1] - found[0]
        place = plane.place(number)
        scale = np.linalg.norm(offset)
        rest = offset - (offset @ first) * first - (offset @ second) * second
        assert place.x == pytest.approx(offset @ first, abs=1e-6 * scale)
        assert place.y == pytest.approx(offset @ second, abs=1e-6 * scale)
        assert place.off == pytest.approx(np.linalg.norm(rest), rel=1e-6)


@given(CASES, st.floats(-3, 3), st.floats(-3, 3))
@settings(max_examples=40, deadline=None)
def test_a_rule_leads_to_the_coordinates_it_was_made_for(
    case: tuple[int, float, float], x: float, y: float
) -> None:
    found, scale = points(case[0], 3, *case[1:]), case[1]
    plane = Plane.through_models(Gram.of(found))
    weights = plane.rule(x * scale, y * scale).weights
    point = np.array(weights) @ found
    moved = Plane.through_models(Gram.of(np.vstack([found, point]))).place(2)
    assert sum(weights) == pytest.approx(1)
    assert (moved.x, moved.y) == pytest.approx((x * scale, y * scale), abs=1e-5 * scale)
    assert moved.off == pytest.approx(0, abs=1e-4 * scale)


@given(CASES)
@settings(max_examples=40, deadline=None)
def test_rules_at_models_are_the_models_to_the_bit(case: tuple[int, float, float]) -> None:
    plane = Plane.through_models(Gram.of(points(case[0], 3, *case[1:])))
    places = [plane.place(i) for i in (-1, 0, 1)]
    weights = [plane.rule(place.x, place.y).weights for place in places]
    assert weights == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]


def test_a_line_and_a_direction_are_square_to_each_other() -> None:
    first, second, other = points(3, 3, 1.0, 5.0)
    direction = np.random.default_rng(8).normal(size=40)
    gram = Gram.of(np.array([first, second, direction, other]))
    plane = Plane.through_models(gram, directions=(2,))
    start, end = (np.array(plane.rule(0.7, y).weights) for y in (0.0, 2.0))
    step = (end - start) @ np.array([first, second, direction])
    assert np.linalg.norm(step) == pytest.approx(2.0, rel=1e-9)
    assert step @ (second - first) == pytest.approx(0.0, abs=1e-9)
    assert plane.rule(0.7, 2.0).directions == 1
    assert plane.rule(plane.place(0).x, 0.0).weights == (0, 1, 0)
    assert plane.units == pytest.approx((1.0, 1.0))


def test_coordinates_along_directions_are_multiples_of_them() -> None:
    model, other = points(4, 2, 1.0, 5.0)
    first, second = np.random.default_rng(9).normal(size=(2, 40))
    plane = Plane.of_directions(Gram.of(np.array([model, first, second, other])))
    assert plane.rule(0.3, -0.2).weights == (1.0, 0.3, -0.2)
    assert plane.rule(0.3, -0.2).convex == (1.0, 0.0, 0.0)
    assert plane.units == pytest.approx((np.linalg.norm(first), np.linalg.norm(second)))
    norms = np.linalg.norm(first) * np.linalg.norm(second)
    assert plane.cosine == pytest.approx(first @ second / norms)
    basis = np.array([first, second]).T
    steps, *_ = np.linalg.lstsq(basis, other - model, rcond=None)
    place = plane.place(2)
    assert (place.x, place.y) == pytest.approx(tuple(steps))
    assert place.off == pytest.approx(np.linalg.norm(other - model - basis @ steps))


def test_offsets_of_directions_do_not_depend_on_where_the_model_is() -> None:
    first, second = np.random.default_rng(1).normal(size=(2, 40))
    for away in (0.0, 1.0, 1e4):
        model = np.full(40, away)
        found = offsets(Gram.of(np.array([model, first, second])), (1, 2))
        expected = np.array([[first @ first, first @ second], [second @ first, second @ second]])
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


BASE = np.random.default_rng(0).normal(size=(3, 40))


@pytest.mark.parametrize(
    "models",
    [
        [BASE[0], BASE[0], BASE[1]],
        [BASE[0], BASE[1], BASE[0]],
        [BASE[0], BASE[1], BASE[1]],
        [BASE[0], BASE[1], (BASE[0] + BASE[1]) / 2],
        [BASE[0], (BASE[0] + BASE[1]) / 2, BASE[1]],
        [BASE[0], BASE[1], 3 * BASE[1] - 2 * BASE[0]],
        [BASE[0], BASE[1], ((BASE[0] + BASE[1]) / 2).astype(np.float32)],
    ],
)
def test_points_on_a_line_span_nothing(models: list[Floats]) -> None:
    with pytest.raises(ArgumentError, match="found them on one line"):
        Plane.through_models(Gram.of(np.array(models)))


def test_a_slender_triangle_still_spans_a_plane() -> None:
    """Two fine-tunes and a model of another origin, a hundred times as far away."""
    models = np.array([BASE[0], BASE[0] + 0.01 * BASE[1], BASE[2]])
    place = Plane.through_models(Gram.of(models)).place(1)
    assert np.hypot(place.x, place.y) == pytest.approx(np.linalg.norm(BASE[2] - BASE[0]))


def test_parallel_directions_and_nothing_span_nothing() -> None:
    for second in (2 * BASE[1], 0 * BASE[1]):
        with pytest.raises(ArgumentError, match="expected three points that span a plane"):
            Plane.of_directions(Gram.of(np.array([BASE[0], BASE[1], second])))
