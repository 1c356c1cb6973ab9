"""Numbers of a report: what JSON has not is null, and is read back as that."""

import math

import pytest

from mergekit_geo.records.losses import Estimate


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_null(value: float) -> None:
    found = Estimate(value=value, low=None, high=value)
    assert found.value is None
    assert math.isnan(found.number)
    text = found.model_dump_json()
    assert text == '{"value":null,"low":null,"high":null,"detectable":null}'
    assert Estimate.model_validate_json(text) == found


def test_significance_wants_both_ends() -> None:
    assert Estimate(value=1.0, low=None, high=None).is_significant is None
    assert Estimate(value=1.0, low=-0.1, high=2.1).is_significant is False
    assert Estimate(value=1.0, low=0.1, high=1.9).is_significant is True
    assert Estimate(value=-1.0, low=-1.9, high=-0.1).is_significant is True
