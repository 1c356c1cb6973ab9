"""What is measured on answers alike, whatever it is."""

import pytest

import mergekit_geo as geo
from mergekit_geo.config.data import NO_DATA, source_of

FUNCTION = geo.FunctionObjective(lambda model, batch: batch, [])


@pytest.mark.parametrize(
    ("data", "seed", "nothing", "default", "named"),
    [
        (geo.EvalData(seed=3), 3, False, True, False),
        (geo.EvalData("held.jsonl"), 0, False, False, True),
        (geo.EvalData(task="causal-lm"), 0, False, True, True),
        (FUNCTION, 0, False, False, True),
        (None, 0, True, False, False),
    ],
)
def test_settings_functions_and_nothing(
    data: geo.EvalData | geo.FunctionObjective | None,
    seed: int,
    nothing: bool,
    default: bool,
    named: bool,
) -> None:
    source = source_of(data)
    assert source.seed == seed
    assert (source.is_nothing, source.is_default, source.is_named) == (nothing, default, named)


def test_what_a_source_can_be_used_as() -> None:
    data = geo.EvalData("held.jsonl", max_examples=5)
    assert source_of(data).as_settings is data
    assert geo.EvalData(**(source_of(data).settings() or {})) == data
    assert source_of(FUNCTION).as_objective is FUNCTION
    assert source_of(FUNCTION).settings() is source_of(None).settings() is None
    assert source_of(None) is NO_DATA
    assert NO_DATA.as_settings is NO_DATA.as_objective is None
    assert data.replaced(seed=2).seed == 2
    assert FUNCTION.replaced(seed=2) is FUNCTION
