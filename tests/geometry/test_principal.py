"""Principal planes against the singular value decomposition of all weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.principal import PrincipalPlane, walk_shares

Floats = NDArray[np.float64]


def walk(seed: int, count: int, away: float) -> Floats:
    """Checkpoints of a walk of many dimensions with a drift, `away` from 0."""
    draw = np.random.default_rng(seed)
    steps = draw.normal(size=(count, 50)) + draw.normal(size=50)
    return np.asarray(away * draw.normal(size=50) + steps.cumsum(axis=0))


def reference(models: Floats) -> tuple[Floats, Floats]:
    """Principal directions (2, n) and shares of variance, of the whole matrix."""
    _, values, directions = np.linalg.svd(models - models.mean(axis=0), full_matrices=False)
    return directions[:2], values[:2] ** 2 / (values**2).sum()


CASES = st.tuples(st.integers(0, 999), st.integers(3, 9), st.sampled_from([0.0, 1.0, 1e3]))


@given(CASES)
@settings(max_examples=40, deadline=None)
def test_directions_and_shares_are_those_of_the_whole_matrix(case: tuple[int, int, float]) -> None:
    models = walk(*case)
    found = PrincipalPlane.of(Gram.of(models), len(models))
    directions, shares = reference(models)
    np.testing.assert_allclose(found.shares, shares, rtol=1e-6)
    made = found.weights_2k @ models
    np.testing.assert_allclose(abs(np.diag(made @ directions.T)), 1, atol=1e-6)
    np.testing.assert_allclose(found.weights_2k.sum(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(made @ made.T, np.eye(2), atol=1e-6)


@given(CASES)
@settings(max_examples=40, deadline=None)
def test_models_are_projected_on_the_plane_through_the_first(case: tuple[int, int, float]) -> None:
    models, count = walk(*case), case[1]
    other = models[0] + np.random.default_rng(1).normal(size=50)
    found = PrincipalPlane.of(Gram.of(np.vstack([models, other])), count)
    directions = found.weights_2k @ models
    assert found.plane.place(found.place_number(0)).off == 0
    for number, model in [*enumerate(models), (count, other)][1:]:
        place = found.plane.place(found.place_number(number))
        offset = model - models[0]
        np.testing.assert_allclose([place.x, place.y], directions @ offset, rtol=1e-4, atol=1e-4)
        rest = offset - directions.T @ (directions @ offset)
        np.testing.assert_allclose(place.off, np.linalg.norm(rest), rtol=1e-5, atol=1e-4)


def test_the_model_that_differences_are_from_changes_no_direction() -> None:
    models = walk(3, 6, 5.0)
    one = PrincipalPlane.of(Gram.of(models), 6).weights_2k @ models
    moved = np.roll(models, 2, axis=0)
    other = PrincipalPlane.of(Gram.of(moved), 6).weights_2k @ moved
    np.testing.assert_allclose(abs(one), abs(other), atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_start_lies_on_the_left(seed: int) -> None:
    models = walk(seed, 6, 5.0)
    for start in (1, 5):
        found = PrincipalPlane.of(Gram.of(models), 6, start)
        place = found.plane.place(found.place_number(start))
        assert place.x < 0
        assert place.y < 0


def test_what_spans_no_plane() -> None:
    models = walk(0, 5, 1.0)
    with pytest.raises(ArgumentError, match="need three models, found 2"):
        PrincipalPlane.of(Gram.of(models), 2)
    line = models[0] + np.arange(5)[:, None] * (models[1] - models[0])
    with pytest.raises(ArgumentError, match="span a plane, found them on one line"):
        PrincipalPlane.of(Gram.of(line), 5)
    same = np.tile(models[0], (5, 1))
    with pytest.raises(ArgumentError, match="span a plane, found them on one line"):
        PrincipalPlane.of(Gram.of(same), 5)


def test_shares_of_random_walks_are_those_of_the_paper() -> None:
    """Eigenvalues 1 / (2 - 2 cos(πj/n)) of n even steps; and those of real walks."""
    j = np.arange(1, 12)
    expected = 1 / (1 - np.cos(np.pi * j / 12))
    np.testing.assert_allclose(walk_shares(range(12)), expected[:2] / expected.sum(), rtol=1e-9)
    np.testing.assert_allclose(walk_shares(range(100, 148, 4)), walk_shares(range(12)), rtol=1e-9)
    times = np.array([0, 1, 2, 5, 6, 20, 25, 40])
    wide = np.random.default_rng(0).normal(size=(41, 20_000)).cumsum(axis=0)[times]
    np.testing.assert_allclose(walk_shares(times.tolist()), reference(wide)[1], atol=0.01)
