"""Gradients and filters of a recipe."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.errors import RecipeError
from mergekit_geo.recipes.inputs import inputs_of
from mergekit_geo.recipes.reading import read_recipe
from mergekit_geo.recipes.resolve import Spot, spots_of
from mergekit_geo.recipes.values import Gradient, at, idle_filters, nearest, parse_value

NAMES = [
    "model.embed_tokens.weight",
    *(f"model.layers.{i}.{part}.weight" for i in range(4) for part in ("self_attn.q", "mlp.up")),
    "model.norm.weight",
    "lm_head.weight",
]


def spots(names: list[str]) -> dict[str, Spot]:
    """Of a recipe that lists models."""
    inputs = inputs_of(read_recipe({"merge_method": "linear", "models": [{"model": "a"}]}))
    return spots_of(inputs, names, of_state({name: torch.zeros(1) for name in names}, "a"))


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=6), st.floats(0, 1))
def test_a_gradient_is_linear_between_its_numbers(values: list[float], place: float) -> None:
    corners = np.linspace(0, 1, len(values))
    assert Gradient(tuple(values)).at(place) == pytest.approx(
        np.interp(place, corners, values), abs=1e-9
    )


def test_layers_run_from_0_to_1_and_all_else_is_at_0() -> None:
    found = {name: spot.place for name, spot in spots(NAMES).items()}
    assert found["model.embed_tokens.weight"] == 0
    assert [found[f"model.layers.{i}.mlp.up.weight"] for i in range(4)] == [0, 1 / 3, 2 / 3, 1]
    assert found["model.norm.weight"] == found["lm_head.weight"] == 0


def test_encoder_and_decoder_both_run_from_0_to_1() -> None:
    names = [f"encoder.block.{i}.w" for i in range(3)] + [f"decoder.block.{i}.w" for i in range(2)]
    assert [spot.place for spot in spots(names).values()] == [0, 0.5, 1, 0, 1]


def test_the_first_filter_that_matches_holds() -> None:
    raw = [{"filter": "attn", "value": [0, 1]}, {"filter": "self", "value": 9}, 0.5]
    value = parse_value(raw, "t")
    assert at(value, "layers.0.self_attn.q", 0.25) == 0.25
    assert at(value, "layers.0.self_mlp", 0.25) == 9
    assert at(value, "norm", 0.25) == 0.5


def test_no_filter_matches() -> None:
    assert at(parse_value([{"filter": "mlp", "value": 1}], "t"), "norm", 0.0) is None


def test_yaml_reads_1e_minus_3_as_text() -> None:
    assert parse_value("1e-3", "lambda") == 0.001


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("abc", "expected a number, a list of numbers, or a list of {filter, value}, found 'abc'"),
        ([], "found \\[\\]"),
        (float("nan"), "found nan"),
        ([{"filter": "mlp"}], r"t\[0\]: a filter without a value"),
        ([{"filtr": "mlp", "value": 1}], "unknown key 'filtr': expected filter and value"),
        ([{"filter": 3, "value": 1}], "part of a tensor's name, found 3"),
        ([0.5, "abc"], r"t\[1\]: expected a number"),
    ],
)
def test_a_value_that_cannot_be_meant(raw: object, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        parse_value(raw, "t")


def test_filters_that_nothing_follows_are_told() -> None:
    value = parse_value(
        [{"filter": "self_atn", "value": 1}, {"value": 0}, {"filter": "mlp", "value": 1}], "t"
    )
    first, second = idle_filters(value, NAMES)
    assert "'self_atn' matches no tensor; the nearest: model.layers.0.self_attn.q" in first
    assert "'mlp' comes too late: an entry without a filter matches first" in second


def test_nearest_names_come_from_one_layer() -> None:
    assert nearest("mlpp", NAMES, 2)[0] == "model.layers.0.mlp.up.weight"
    assert len({name for name in nearest("mlpp", NAMES, 9) if "mlp" in name}) == 1
