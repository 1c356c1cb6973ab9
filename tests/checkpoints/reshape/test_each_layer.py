"""What configurations say of each layer, joined as layers are: against what is said of each."""

from __future__ import annotations

from typing import Any

import pytest

from mergekit_geo.checkpoints.reshape.depth import restacked
from mergekit_geo.checkpoints.reshape.each_layer import EachLayer
from mergekit_geo.errors import IncompatibleError

TAKEN = [(0, 0), (1, 3), (0, 2), (0, 3)]


@pytest.mark.parametrize(
    ("key", "mine", "theirs", "joined"),
    [
        ("layer_types", ["a", "b", "c", "d"], ["e", "f", "g", "h"], ["a", "h", "c", "d"]),
        ("hybrid_override_pattern", "M-M*", "M*M-", "M-M*"),
        ("activation_sparsity_pattern", [0.95, 0.95, 0.0, 0.0], [0.0] * 4, [0.95, 0.0, 0.0, 0.0]),
        ("fullatt_block_indexes", [0, 2], [1, 3], [0, 1, 2]),
        ("mlp_only_layers", [], [3], [1]),
        ("deepstack_visual_indexes", [0, 2], [1, 3], [0, 2]),
        ("first_k_dense_replace", 1, 0, 1),
        ("num_kv_shared_layers", 2, 1, 3),
        ("moe_layer_end_index", 3, 3, 3),
        ("moe_layer_end_index", -1, -1, -1),
        ("block_types", ["r", "r", "a"], ["a", "r"], ["r", "r", "a", "r"]),
        ("attention_types", [[["g", "l"], 2]], [[["l", "g"], 2]], [[["g", "g", "g", "l"], 1]]),
        ("per_layer_config", {"02": {"x": 1}}, {"3": {"x": 2}}, {"1": {"x": 2}, "2": {"x": 1}}),
    ],
)
def test_what_is_said_of_each_layer(key: str, mine: Any, theirs: Any, joined: Any) -> None:
    said = EachLayer([{key: mine}, {key: theirs}], [4, 4])
    assert said.joined(TAKEN) == {key: joined}


def test_what_is_not_said_of_each_layer_stays() -> None:
    config = {"layer_types": ["a"], "mlp_only_layers": None, "eos_token_id": [1, 2], "hidden": 4}
    assert EachLayer([config], [2]).joined([(0, 1)]) == {}


def test_layers_whose_outputs_are_taken_apart_stay() -> None:
    """Of several copies the last is read off; none is refused."""
    said = EachLayer([{"deepstack_visual_indexes": [2, 0]}], [3])
    found = said.joined([(0, 0), (0, 2), (0, 0)])
    assert found == {"deepstack_visual_indexes": [1, 2]}
    with pytest.raises(IncompatibleError, match="outputs of 2 layers, and of these 1 are left"):
        said.joined([(0, 0), (0, 1)])


def test_an_architecture_that_transformers_does_not_know_says_its_layers_by_a_usual_key() -> None:
    """Of several parts of a configuration the one with as many as there are tensors of."""
    vision, text = {"num_hidden_layers": 3}, {"n_layers": 4, "layer_types": list("abcd")}
    config = {"architectures": ["Unheard"], "vision_config": vision, "text_config": text}
    found = restacked([config], "model.layers", [[(0, 1)], [(0, 1)]], 4).config
    inner = {"n_layers": 2, "layer_types": ["b", "b"]}
    assert found == {**config, "text_config": inner}
    with pytest.raises(IncompatibleError, match="says how many layers x has"):
        restacked([config], "x", [[(0, 1)]], 7)
