"""Weights of a soup."""

import pytest

from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.linear import Linear, check_weights, normalized


def test_equal_by_default_and_normalised_to_one() -> None:
    assert normalized(check_weights(4, None)) == (0.25,) * 4


def test_sum_to_zero_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"0\.5, -0\.5 sum to zero.*no-normalize"):
        normalized((0.5, -0.5))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_weights_must_be_numbers(wrong: float) -> None:
    with pytest.raises(ArgumentError, match=r"must be numbers, found (nan|inf)"):
        check_weights(2, [1.0, wrong])


def test_one_weight_per_model() -> None:
    with pytest.raises(ArgumentError, match="3 weights for 2 models"):
        check_weights(2, [1, 2, 3])


def test_statistics_get_convex_weights_even_from_negative_ones() -> None:
    assert Linear((1.5, -0.5)).convex == (1.0, 0.0)
