"""What a filter is, against loops over the layers of real architectures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)
from transformers.pytorch_utils import Conv1D

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.memory import of_module, of_state
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.landscapes.directions import direction
from mergekit_geo.landscapes.filters import Filters, filters_of
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.memory import MemorySink
from mergekit_geo.merging.stream import stream
from mergekit_geo.modules.blend import module_names


def llama() -> nn.Module:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
        )
    )  # fmt: skip


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=16, n_positions=12))


def mixtral() -> nn.Module:
    return MixtralForCausalLM(
        MixtralConfig(
            vocab_size=32, hidden_size=16, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, num_local_experts=2,
        )
    )  # fmt: skip


def gpt_oss() -> nn.Module:
    return GptOssForCausalLM(
        GptOssConfig(
            vocab_size=32, hidden_size=16, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, num_local_experts=3, head_dim=8,
        )
    )  # fmt: skip


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.Linear(12, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, groups=1), nn.BatchNorm2d(6), nn.Conv2d(6, 8, 3, groups=2), nn.Flatten(),
        nn.LayerNorm((8, 16)), nn.Linear(128, 10),
    )  # fmt: skip


def sound() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 5, 3), nn.ConvTranspose1d(5, 4, 3), nn.ConvTranspose1d(4, 6, 2, groups=2)
    )


ARCHITECTURES = (llama, gpt2, mixtral, gpt_oss, mlp, cnn, sound)


def slices(module: nn.Module, leaf: str, weight: Tensor) -> Iterator[Tensor]:
    """Every filter of a layer's parameter, one after another; nothing for norms and biases."""
    if "bias" in leaf or weight.ndim < 2 or isinstance(module, nn.LayerNorm):
        return
    if isinstance(module, Conv1D):
        yield from weight.unbind(1)
    elif isinstance(module, nn.ConvTranspose1d):
        per_group = weight.shape[0] // module.groups
        for part in weight.split(per_group):
            yield from part.unbind(1)
    elif "Experts" in type(module).__name__:
        for expert in weight:
            yield from expert.unbind(1 if type(module).__name__ == "GptOssExperts" else 0)
    else:  # rows: linear layers, embeddings and output channels
        assert isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d | nn.Conv1d) or (
            "Router" in type(module).__name__
        )
        yield from weight.unbind(0)


def direction_of(model: nn.Module, seed: int = 0) -> tuple[Checkpoint, Checkpoint]:
    checkpoint = of_module(model, "model")
    names = module_names(model, checkpoint)
    assert names is not None
    filters = filters_of(model, names, checkpoint.tensors)
    return checkpoint, direction(checkpoint, filters, seed, "direction")


def state_of(found: Checkpoint) -> dict[str, Tensor]:
    blend = Blend((found,), Linear((1.0,)))
    sink = MemorySink(blend)
    stream(blend, sink)
    return sink.state


@pytest.mark.parametrize("make", ARCHITECTURES)
def test_a_direction_has_the_norms_of_the_filters(make: object) -> None:
    torch.manual_seed(0)
    model = make()  # type: ignore[operator]
    with torch.no_grad():  # norms that start as ones are moved, too
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    _, direction = direction_of(model)
    drawn, moved = state_of(direction), 0
    for name, parameter in model.named_parameters():
        path, _, leaf = name.rpartition(".")
        module, found = model.get_submodule(path), drawn[name]
        own = list(slices(module, leaf, parameter.detach()))
        if not own:
            assert not found.any(), name
            continue
        moved += 1
        assert len({tuple(x.shape) for x in own}) == 1
        for weights, steps in zip(own, slices(module, leaf, found), strict=True):
            assert steps.norm().item() == pytest.approx(weights.norm().item(), rel=1e-6)
            cosine = nn.functional.cosine_similarity(weights.reshape(-1), steps.reshape(-1), dim=0)
            assert cosine < 0.999 or weights.numel() < 6
    assert moved >= 2
    buffers = [name for name, buffer in model.named_buffers() if name in drawn]
    assert not any(drawn[name].any() for name in buffers)


def test_batch_norm_buffers_are_among_those_that_stay() -> None:
    checkpoint, direction = direction_of(cnn())
    state = state_of(direction)
    stays = {"1.running_mean", "1.running_var", "1.weight", "1.bias", "4.weight", "4.bias"}
    assert stays <= set(state)
    assert not any(state[name].any() for name in stays)
    assert "1.num_batches_tracked" in checkpoint.tensors
    assert "1.num_batches_tracked" not in direction.tensors  # integers are the donor's


def test_every_tensor_of_a_llama_but_norms_moves() -> None:
    _, direction = direction_of(llama())
    moved = {name for name, tensor in state_of(direction).items() if tensor.any()}
    assert {name for name in direction.tensors if "norm" not in name} == moved


def test_tied_weights_are_stored_once_and_drawn_once() -> None:
    model = llama()
    checkpoint, direction = direction_of(model)
    assert checkpoint.ties == {"lm_head.weight": "model.embed_tokens.weight"}
    assert "lm_head.weight" not in direction.tensors


def test_tied_weights_that_are_stored_twice_are_drawn_alike() -> None:
    state = {"head": torch.randn(5, 3), "wte": torch.randn(5, 3)}
    state["head"] = state["wte"].clone()
    checkpoint = of_state(state, "m")
    filters = {name: Filters.rows(5, 3) for name in state}
    twins = {"head": "wte", "wte": "wte"}
    tied = state_of(direction(checkpoint, filters, 0, "d", twins))
    loose = state_of(direction(checkpoint, filters, 0, "d"))
    assert tied["head"].equal(tied["wte"])
    assert not loose["head"].equal(loose["wte"])


@pytest.mark.parametrize(
    ("filters", "shape", "axes"),
    [
        (Filters.rows(4, 15), (4, 3, 5), (0,)),
        (Filters.rows(12, 5), (4, 3, 5), (0, 1)),
        (Filters.columns(3, 5), (3, 5), (1,)),
        (Filters.columns(3, 5, groups=4), (4, 3, 5), (0, 2)),
        (Filters.columns(3, 5, inner=7), (3, 5, 7), (1,)),
        (Filters.columns(3, 5, groups=2, inner=7), (2, 3, 5, 7), (0, 2)),
    ],
)
def test_numbers_are_those_of_the_axes_that_tell_filters(
    filters: Filters, shape: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    sizes = [shape[axis] for axis in axes]
    numbers = np.arange(np.prod(sizes)).reshape(sizes)
    others = [axis for axis in range(len(shape)) if axis not in axes]
    expected = np.broadcast_to(np.expand_dims(numbers, others), shape).reshape(-1)
    assert filters.total == numbers.size
    size = int(np.prod(shape))
    assert filters.numbers(0, size).tolist() == expected.tolist()
    assert filters.numbers(7, size - 3).tolist() == expected[7 : size - 3].tolist()
