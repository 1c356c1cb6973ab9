"""A base with an adapter is what peft merges them to, read chunk by chunk."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import MixtralConfig, MixtralForCausalLM

from mergekit_geo.checkpoints.adapter import compatibility, names
from mergekit_geo.checkpoints.adapter.files import open_adapter
from mergekit_geo.checkpoints.adapter.names import AdapterBase
from mergekit_geo.checkpoints.dtypes import TORCH_DTYPES, bytes_of
from mergekit_geo.checkpoints.naming import schema_of
from mergekit_geo.checkpoints.reference import open_checkpoint
from mergekit_geo.config.measures import Compute
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.modules.blend import Reloading
from mergekit_geo.modules.open import open_live, open_module
from tests.checkpoints.adapter_models import (
    loaded,
    make_adapter,
    make_base,
    merged_by_peft,
    merged_here,
    rewrite,
    units,
)

CPU = Compute(device="cpu")
GPT2_LAYERS = ["c_attn", "c_proj", "c_fc"]

OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {"target_modules": "all-linear"}),
    "conv1d": ("gpt2", {"target_modules": GPT2_LAYERS}),
    "square conv1d alone": ("gpt2", {"target_modules": ["attn.c_proj"], "fan_in_fan_out": True}),
    "rslora": ("llama", {"target_modules": ["q_proj", "up_proj"], "use_rslora": True}),
    "patterns": (
        "llama",
        {
            "target_modules": "all-linear",
            "rank_pattern": {"0.*q_proj": 4, "up_proj": 3},
            "alpha_pattern": {"1.*v_proj": 7, r"^model\.layers\.0\.mlp\.down_proj": 5},
        },
    ),
    "some layers": ("llama", {"target_modules": ["v_proj"], "layers_to_transform": [1]}),
    "bias all": ("llama", {"target_modules": ["q_proj"], "bias": "all"}),
    "bias lora_only": ("gpt2", {"target_modules": ["c_attn"], "bias": "lora_only"}),
    "lora_bias": ("llama", {"target_modules": ["q_proj", "k_proj"], "lora_bias": True}),
    "modules_to_save": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["norm"]}),
    "embedding and head": ("llama", {"target_modules": ["embed_tokens", "lm_head"]}),
    "dora": ("llama", {"target_modules": "all-linear", "use_dora": True}),
    "dora conv1d": ("gpt2", {"target_modules": GPT2_LAYERS, "use_dora": True}),
    "dora embedding": ("llama", {"target_modules": ["embed_tokens"], "use_dora": True}),
    "convolution": ("vit", {"target_modules": ["projection", "q_proj"],
                            "modules_to_save": ["classifier"]}),
    "dora convolution": ("vit", {"target_modules": ["projection"], "use_dora": True}),
}  # fmt: skip

Pair = Callable[..., tuple[Path, Path]]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """A base and an adapter of it."""

    def make(
        kind: str = "llama", base: dict[str, Any] | None = None, **adapter: Any
    ) -> tuple[Path, Path]:
        model = make_base(tmp_path / "base", kind, **(base or {}))
        settings = {"target_modules": ["q_proj"], **adapter}
        return model, make_adapter(model, tmp_path / "adapter", **settings)

    return make


def in_memory(adapter: Path) -> dict[str, Tensor]:
    """The merge in a module, under the names that peft's has."""
    return dict(open_module(open_checkpoint(adapter).fetch(), CPU).state_dict())


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_what_peft_makes_of_it(option: str, pair: Pair) -> None:
    kind, settings = OPTIONS[option]
    base, adapter = pair(kind, **settings)
    expected, before = merged_by_peft(base, adapter).state_dict(), loaded(base).state_dict()
    found = in_memory(adapter)
    assert found.keys() == expected.keys()
    allowed = 4 if settings.get("use_dora") else 2  # a norm and a quotient are rounded, too
    for name, tensor in found.items():
        size = torch.maximum(before[name].abs(), expected[name].abs()).max()  # peft adds in float32
        assert (tensor - expected[name]).abs().max() <= allowed * units(tensor, size), name
    assert any(not found[name].equal(before[name]) for name in found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_halves_are_rounded_once(kind: str, dtype: torch.dtype, pair: Pair) -> None:
    """peft rounds the product and the sum; a float32 merge that is rounded once is the truth."""
    targets = GPT2_LAYERS if kind == "gpt2" else "all-linear"
    base, adapter = pair(kind, {"dtype": dtype}, target_modules=targets)
    exact = merged_by_peft(base, adapter, wide=True).state_dict()
    peft, found = merged_by_peft(base, adapter).state_dict(), merged_here(adapter)
    differing = 0
    for name, tensor in found.items():
        assert tensor.dtype == dtype
        rounded, unit = exact[name].to(dtype), units(tensor, exact[name])
        assert ((tensor.double() - exact[name].double()).abs() <= 0.5001 * unit).all(), name
        differing += int((tensor != rounded).sum())
        size = torch.maximum(exact[name].abs(), loaded(base).state_dict()[name].float().abs())
        assert ((tensor.double() - peft[name].double()).abs() <= 2 * units(tensor, size)).all()
    assert differing <= 2  # where float32 itself falls on the other side of a tie


def test_a_wider_output_keeps_what_the_base_s_dtype_would_lose(pair: Pair) -> None:
    base, adapter = pair(base={"dtype": torch.bfloat16})
    exact = merged_by_peft(base, adapter, wide=True).state_dict()
    found = merged_here(adapter, "F32")
    name = "model.layers.0.self_attn.q_proj.weight"
    assert (found[name] - exact[name]).abs().max() <= 2 * units(found[name], exact[name].max())
    assert not found[name].equal(found[name].bfloat16().float())


def test_chunks_are_read_from_their_place(pair: Pair) -> None:
    _, adapter = pair(target_modules=["q_proj", "embed_tokens"], use_dora=True)
    checkpoint = open_checkpoint(adapter)
    for name, info in checkpoint.tensors.items():
        whole = torch.empty(info.count, dtype=TORCH_DTYPES[info.dtype])
        checkpoint.read(name, 0, info.count, bytes_of(whole))
        part = torch.zeros(info.count, dtype=whole.dtype)
        checkpoint.read(name, 1, info.count - 2, bytes_of(part))
        torch.testing.assert_close(part[:-3], whole[1:-2], rtol=1e-6, atol=0)
        assert not part[-3:].any()


def test_the_base_s_dtypes_are_what_is_written(pair: Pair) -> None:
    _, adapter = pair(base={"dtype": torch.bfloat16}, modules_to_save=["norm"])
    tensors = open_checkpoint(adapter).tensors
    touched = tensors["model.layers.0.self_attn.q_proj.weight"]
    assert (touched.dtype, touched.written) == ("F32", "BF16")
    assert tensors["model.layers.0.self_attn.k_proj.weight"].dtype == "BF16"
    assert {tensor.dtype for tensor in merged_here(adapter).values()} == {torch.bfloat16}


@pytest.mark.parametrize("asked", [False, True])
def test_an_ordinary_adapter_does_not_wait_for_transformers(
    asked: bool, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only layers of a causal language model: what transformers knows of it changes nothing."""
    base, adapter = pair(target_modules="all-linear")
    questions: list[object] = []
    monkeypatch.setattr(
        names, "schema_of", lambda config: questions.append(config) or schema_of(config)
    )
    monkeypatch.setattr(compatibility, "is_ordinary", lambda *_: not asked)
    found = merged_here(adapter)
    assert bool(questions) == asked
    expected = merged_by_peft(base, adapter).state_dict()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("gpt2", {"target_modules": ["attn.c_proj"]}),
        ("llama", {"target_modules": ["lm_head"]}),
        ("llama", {"target_modules": ["embed_tokens"]}),
        ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["norm"]}),
        ("vit", {"target_modules": ["q_proj"]}),
    ],
)
def test_for_any_other_transformers_is_asked(
    kind: str, settings: dict[str, Any], pair: Pair
) -> None:
    base, adapter = pair(kind, **settings)
    assert not compatibility.is_ordinary(AdapterBase(open_checkpoint(base)), open_adapter(adapter))


def test_old_names_of_the_base_are_found(pair: Pair) -> None:
    """GPT-2's first checkpoints lack the prefix."""
    base, adapter = pair("gpt2", target_modules=GPT2_LAYERS)
    expected = merged_by_peft(base, adapter).state_dict()
    state = load_file(base / "model.safetensors")
    old = {name.removeprefix("transformer."): tensor for name, tensor in state.items()}
    save_file(old, base / "model.safetensors", {"format": "pt"})
    found = merged_here(adapter)
    assert "h.0.attn.c_attn.weight" in found
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[f"transformer.{name}"], rtol=1e-6, atol=1e-7)


def test_where_the_architecture_is_unknown_the_setting_tells_the_layout(pair: Pair) -> None:
    base, adapter = pair("gpt2", target_modules=["attn.c_proj"], fan_in_fan_out=True)
    expected = merged_by_peft(base, adapter).state_dict()
    rewrite(base / "config.json", architectures=["OwnModel"], tie_word_embeddings=False)
    name = "transformer.h.0.attn.c_proj.weight"
    torch.testing.assert_close(merged_here(adapter)[name], expected[name], rtol=1e-6, atol=1e-7)


def test_the_module_that_is_measured_is_the_merge(pair: Pair) -> None:
    """In float32 on a CPU, of what would be written: no folder holds it."""
    base, adapter = pair(base={"dtype": torch.bfloat16}, target_modules="all-linear")
    module = open_module(open_checkpoint(adapter).fetch(), CPU)
    state = module.state_dict()
    for name, tensor in merged_here(adapter).items():
        assert state[name].equal(tensor.float()), name
    ids = torch.arange(10)[None]
    with torch.no_grad():
        assert not module(input_ids=ids).logits.equal(loaded(base)(input_ids=ids).logits)


def test_fused_experts_are_loaded_with_the_sums(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=32, hidden_size=16, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, num_local_experts=2,
    )  # fmt: skip
    MixtralForCausalLM(config).save_pretrained(tmp_path / "base")
    adapter = make_adapter(tmp_path / "base", tmp_path / "adapter", target_modules=["q_proj"])
    checkpoint = open_checkpoint(adapter).fetch()
    assert isinstance(open_live(Blend((checkpoint,), Linear((1.0,))), CPU), Reloading)
    ids = torch.arange(8)[None]
    with torch.no_grad():
        found = open_module(checkpoint, CPU)(input_ids=ids).logits
        expected = merged_by_peft(tmp_path / "base", adapter)(input_ids=ids).logits
    torch.testing.assert_close(found, expected)


def test_a_base_beside_the_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path is seen from here, or else from the adapter's own folder."""
    base = make_base(tmp_path / "runs/base")
    adapter = make_adapter(base, tmp_path / "runs/x", target_modules=["q_proj"])
    expected = merged_here(f"{base}+{adapter}")
    for stated, here in (("../base", "/"), ("base", tmp_path / "runs")):
        rewrite(adapter / "adapter_config.json", base_model_name_or_path=stated)
        monkeypatch.chdir(here)
        assert all(t.equal(expected[n]) for n, t in merged_here(adapter).items())


def test_the_adapter_s_name_in_its_tensors(tmp_path: Path) -> None:
    """As in the state of a PeftModel, which some trainers save themselves."""
    base = make_base(tmp_path / "base")
    targets = ["q_proj", "embed_tokens"]
    adapter = make_adapter(base, tmp_path / "x", target_modules=targets, use_dora=True)
    expected = merged_here(f"{base}+{adapter}")
    path = adapter / "adapter_model.safetensors"
    part = re.compile(r"(lora_(?:[AB]|embedding_[AB]|magnitude_vector))(?=\.weight|$)")
    state = {part.sub(r"\1.default", name): t for name, t in load_file(path).items()}
    assert any(name.endswith("lora_embedding_A.default") for name in state)
    save_file(state, path)
    assert all(t.equal(expected[n]) for n, t in merged_here(f"{base}+{adapter}").items())
