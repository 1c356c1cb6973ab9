"""Groups of tensors by depth and by kind: partitions, whatever the names."""

import pytest

from mergekit_geo.checkpoints.layer_groups import by_depth, by_kind

LLAMA = [
    "lm_head.weight", "model.embed_tokens.weight", "model.norm.weight",
    *(f"model.layers.{i}.{name}.weight" for i in range(32)
      for name in ("self_attn.q_proj", "mlp.up_proj", "input_layernorm")),
]  # fmt: skip
T5 = [
    "shared.weight", "encoder.final_layer_norm.weight", "decoder.final_layer_norm.weight",
    *(f"{side}.block.{i}.layer.0.SelfAttention.q.weight" for side in ("decoder", "encoder")
      for i in range(3)),
    *(f"decoder.block.{i}.layer.1.EncDecAttention.q.weight" for i in range(3)),
]  # fmt: skip
RESNET = [
    "resnet.embedder.embedder.convolution.weight", "classifier.1.weight",
    *(f"resnet.encoder.stages.{i}.layers.0.layer.0.{name}" for i in range(4)
      for name in ("convolution.weight", "normalization.running_var")),
]  # fmt: skip
OTHERS = ["w", "net.0.weight", "net.2.weight", "mixer.gate"]


@pytest.mark.parametrize("names", [LLAMA, T5, RESNET, OTHERS], ids=["llama", "t5", "resnet", "any"])
def test_every_tensor_is_in_one_group_of_each_division(names: list[str]) -> None:
    for groups in (by_depth(names, {}), by_kind(names, {}), by_depth(names, {}, most=1)):
        assert sorted(name for group in groups.values() for name in group) == sorted(names)


def test_blocks_of_many_layers_are_consecutive_and_in_order() -> None:
    found = by_depth(LLAMA, {})
    blocks = [f"layers {i}-{i + 3}" for i in range(0, 32, 4)]
    assert list(found) == ["embeddings", *blocks, "norm", "head"]
    assert {len(found[block]) for block in blocks} == {12}
    assert list(by_depth(LLAMA, {}, most=3))[1:-2] == ["layers 0-9", "layers 10-20", "layers 21-31"]
    assert len(by_depth(LLAMA, {}, most=99)) == 35


def test_stacks_of_one_model_are_told_apart() -> None:
    assert list(by_depth(T5, {"is_encoder_decoder": True}, most=2)) == [
        "shared", "encoder layers 0-2", "encoder norm", "decoder layers 0-2", "decoder norm"
    ]  # fmt: skip
    kinds = by_kind(T5, {"is_encoder_decoder": True})
    assert {name: len(found) for name, found in kinds.items()} == {
        "shared": 1, "attention": 6, "cross-attention": 3, "norms": 2
    }  # fmt: skip
