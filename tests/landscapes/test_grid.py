"""Positions, and the order in which a grid is gone through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergekit_geo.config.measures import LandscapeConfig
from mergekit_geo.errors import ArgumentError
from mergekit_geo.landscapes.grid import around, beyond, scan
from mergekit_geo.tasks.losses import Losses


@given(
    st.floats(-1e3, 1e3),
    st.floats(1e-3, 1e3),
    st.floats(0, 5),
    st.integers(2, 60),
)
def test_a_stretch_has_its_ends_on_the_grid(
    low: float, length: float, margin: float, count: int
) -> None:
    high = low + length
    found = beyond(low, high, margin, count)
    assert len(found) == count
    assert low in found
    assert high in found
    steps = np.diff(found)
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-3)
    assert found[0] - low == pytest.approx(high - found[-1], rel=1e-3, abs=1e-9 * abs(low))


def test_the_margin_is_what_was_asked_for_to_a_step() -> None:
    assert beyond(0, 12, 1 / 3, 21)[[0, -1]].tolist() == [-4, 16]
    assert beyond(0, 1, 0, 5)[[0, -1]].tolist() == [0, 1]
    assert beyond(0, 1, 1 / 3, 2).tolist() == [0, 1]
    assert beyond(0, 1, 1 / 3, 3).tolist() == [0, 0.5, 1]
    found = beyond(0, 1, 0.5, 100)
    assert found[0] == pytest.approx(-0.5, abs=0.02)


@given(st.floats(1e-3, 1e3), st.integers(2, 40))
def test_a_model_in_the_middle_is_on_an_odd_grid_alone(radius: float, count: int) -> None:
    found = around(radius, count)
    assert (0.0 in found) == (count % 2 == 1)
    assert found[0] == -radius
    assert found[-1] == radius
    np.testing.assert_allclose(found, -found[::-1])


def test_points_are_numbered_row_by_row_and_gaps_are_kept() -> None:
    seen = []

    def measure(number: int, x: float, y: float) -> Losses:
        seen.append((number, x, y))
        loss = np.nan if (x, y) == (1, 0) else 10 * y + x
        return Losses(np.full(2, loss), np.ones(2), np.arange(2), np.array([x, y]))

    found = scan(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0]), measure)
    assert seen == [(1, 0, 0), (2, 1, 0), (3, 2, 0), (4, 0, 1), (5, 1, 1), (6, 2, 1)]
    np.testing.assert_array_equal(found.loss_yx, [[0, np.nan, 2], [10, 11, 12]])
    np.testing.assert_array_equal(found.metric_yx, [[0, 0.5, 1], [0.5, 1, 1.5]])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"grid": 1}, "grid must be at least 2, found 1"),
        ({"margin": -0.1}, "margin must be a number from 0 on, found -0.1"),
        ({"margin": float("nan")}, "margin must be a number from 0 on, found nan"),
        ({"radius": 0.0}, "radius must be a number above 0, found 0"),
        ({"low": 4.0, "high": 3.0}, "the colours' range begins at 4 and ends at 3"),
        ({"low": 4.0, "high": float("nan")}, "the colours' range begins at 4 and ends at nan"),
    ],
)
def test_a_view_that_cannot_be_meant(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        LandscapeConfig(**wrong)  # type: ignore[arg-type]
