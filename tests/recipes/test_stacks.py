"""Slices that make another architecture, against modules whose layers are put together by hand."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.nn import Module, ModuleList
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForConditionalGeneration,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Gemma4ForCausalLM,
    Gemma4TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    JambaConfig,
    JambaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    NemotronHConfig,
    NemotronHForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.cli.app import app
from mergekit_geo.errors import GeoError, IncompatibleError, RecipeError
from mergekit_geo.recipes.dry_run import dry_run

KEPT = geo.OutputConfig(fsync=False)
SIZES: dict[str, Any] = {
    "vocab_size": 24, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2,
    "num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FULL, WINDOW = "full_attention", "sliding_attention"


def drawn(model: Module, seed: int) -> Module:
    """Every parameter at random, gains and biases too."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    return model.eval()


def llama(seed: int, layers: int = 4, **more: Any) -> Module:
    sizes = {**SIZES, **more}
    return drawn(LlamaForCausalLM(LlamaConfig(num_hidden_layers=layers, **sizes)), seed)


def qwen3(seed: int) -> Module:
    kinds = [FULL, WINDOW, WINDOW, FULL]
    config = Qwen3Config(
        **SIZES, num_hidden_layers=4, head_dim=8, layer_types=kinds, use_sliding_window=True,
        sliding_window=2,
    )  # fmt: skip
    return drawn(Qwen3ForCausalLM(config), seed)


def gemma3(seed: int) -> Module:
    config = Gemma3TextConfig(
        **SIZES, num_hidden_layers=4, head_dim=8, sliding_window=2, sliding_window_pattern=2,
        layer_types=[WINDOW, FULL, WINDOW, FULL],
    )  # fmt: skip
    return drawn(Gemma3ForCausalLM(config), seed)


def mixtral(seed: int) -> Module:
    return drawn(
        MixtralForCausalLM(MixtralConfig(**SIZES, num_hidden_layers=4, num_local_experts=2)), seed
    )


def phi3(seed: int) -> Module:
    return drawn(Phi3ForCausalLM(Phi3Config(**SIZES, num_hidden_layers=4)), seed)


def gpt2(seed: int) -> Module:
    config = GPT2Config(vocab_size=24, n_embd=16, n_head=2, n_layer=4, n_positions=16)
    return drawn(GPT2LMHeadModel(config), seed)


def nemotron_h(seed: int) -> Module:
    """Its configuration lists the layers, and does not count them."""
    kinds = ["mamba", "attention", "mlp", "mamba"]
    mamba = {"mamba_num_heads": 2, "mamba_head_dim": 16, "n_groups": 1, "ssm_state_size": 4}
    config = NemotronHConfig(
        **SIZES, **mamba, layers_block_type=kinds, head_dim=8, chunk_size=4, use_mamba_kernels=False
    )
    return drawn(NemotronHForCausalLM(config), seed)


def recurrent_gemma(seed: int) -> Module:
    """Kinds of its layers come in turn."""
    config = RecurrentGemmaConfig(
        **SIZES, num_hidden_layers=4, lru_width=16, head_dim=8, attention_window_size=4
    )
    return drawn(RecurrentGemmaForCausalLM(config), seed)


def gemma4(seed: int) -> Module:
    """Its embeddings have a part for each layer."""
    config = Gemma4TextConfig(
        **SIZES, num_hidden_layers=4, head_dim=8, global_head_dim=16, sliding_window=2,
        layer_types=[FULL, WINDOW, WINDOW, FULL], hidden_size_per_layer_input=4,
        vocab_size_per_layer_input=24,
    )  # fmt: skip
    return drawn(Gemma4ForCausalLM(config), seed)


MODELS = {
    "llama": llama, "qwen3": qwen3, "gemma3": gemma3, "mixtral": mixtral, "phi3": phi3,
    "gpt2": gpt2, "nemotron_h": nemotron_h, "recurrent_gemma": recurrent_gemma,
}  # fmt: skip


def span(model: str, start: int, stop: int, **more: Any) -> dict[str, Any]:
    return {"sources": [{"model": model, "layer_range": [start, stop]}], **more}


def layers_of(model: Module) -> tuple[Module, str]:
    inner = getattr(model, "transformer", None)
    return (inner, "h") if inner is not None else (model.model, "layers")  # type: ignore[return-value]


def by_hand(first: Module, second: Module, ranges: list[tuple[str, int, int]]) -> Module:
    """The first model's embeddings, layers of both, the second's norm and head."""
    whole = copy.deepcopy(first)
    models = {"a": first, "b": second}
    inner, key = layers_of(whole)
    layers = [
        copy.deepcopy(getattr(*layers_of(models[name]))[i])
        for name, start, stop in ranges
        for i in range(start, stop)
    ]
    for i, layer in enumerate(layers):
        for part in layer.modules():
            if hasattr(part, "layer_idx"):
                part.layer_idx = i
    setattr(inner, key, ModuleList(layers))
    norm = next(n for n in ("ln_f", "norm", "norm_f", "final_norm") if hasattr(inner, n))
    last, _ = layers_of(models[ranges[-1][0]])
    getattr(inner, norm).load_state_dict(getattr(last, norm).state_dict())
    if not whole.config.tie_word_embeddings:  # type: ignore[union-attr]
        whole.lm_head.load_state_dict(models[ranges[-1][0]].lm_head.state_dict())  # type: ignore[union-attr, arg-type]
    config: Any = whole.config
    config.num_hidden_layers = len(layers)
    for each in ("layer_types", "layers_block_type"):
        if each in vars(config):
            said: Any = getattr(first.config, each)
            setattr(config, each, [said[i] for _, s, e in ranges for i in range(s, e)])
    return whole.eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(3, 13)[None]
    found: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return found


RANGES = {
    "grown": [("a", 0, 3), ("a", 1, 4)],
    "frankenmerge": [("a", 0, 3), ("b", 2, 4)],
    "pruned": [("a", 0, 1), ("a", 3, 4)],
    "moved": [("a", 1, 2), ("b", 0, 1), ("a", 3, 4), ("b", 1, 2)],
}


GROWN = ("nemotron_h", "recurrent_gemma")
"""What is of interest in them is what their configurations say of layers: one stack shows it."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [(n, kind) for n in MODELS for kind in RANGES if n not in GROWN or kind == "grown"],
)
def test_a_stack_is_the_model_put_together_by_hand(name: str, kind: str, tmp_path: Path) -> None:
    """To the bit: its logits, with no key missing or unexpected."""
    ranges = RANGES[kind]
    a, b = (MODELS[name](seed) for seed in (1, 2))
    for model, folder in ((a, "a"), (b, "b")):
        model.save_pretrained(tmp_path / folder)  # type: ignore[operator]
    slices = [span(str(tmp_path / model), start, stop) for model, start, stop in ranges]
    out = tmp_path / "out"
    geo.run({"merge_method": "passthrough", "slices": slices}, out, data=None, output=KEPT)
    found, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(info.values())
    assert torch.equal(logits(found.eval()), logits(by_hand(a, b, ranges)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_encoder_and_decoder_are_stacked_apart(kind: str, tmp_path: Path) -> None:
    """By modules; T5's first block keeps the relative positions of all."""
    if kind == "t5":
        config: Any = T5Config(
            vocab_size=24, d_model=16, d_kv=8, d_ff=24, num_layers=3, num_decoder_layers=3,
            num_heads=2,
        )  # fmt: skip
        model = drawn(T5ForConditionalGeneration(config), 3)
    else:
        config = BartConfig(
            vocab_size=24, d_model=16, encoder_layers=3, decoder_layers=3, encoder_ffn_dim=24,
            decoder_ffn_dim=24, encoder_attention_heads=2, decoder_attention_heads=2,
            max_position_embeddings=32,
        )  # fmt: skip
        model = drawn(BartForConditionalGeneration(config), 3)
    source = str(tmp_path / "a")
    model.save_pretrained(source)  # type: ignore[operator]
    modules = {
        "encoder": {"slices": [span(source, 1, 3)]},
        "decoder": {"slices": [span(source, 0, 2), span(source, 1, 3)]},
    }
    out = tmp_path / "out"
    geo.run({"merge_method": "passthrough", "modules": modules}, out, data=None, output=KEPT)
    found, info = type(model).from_pretrained(out, output_loading_info=True)  # type: ignore[attr-defined]
    assert not any(info.values())
    key = "block" if kind == "t5" else "layers"
    wholes = model if kind == "t5" else model.model
    parts = found if kind == "t5" else found.model
    for stack, taken in (("encoder", [1, 2]), ("decoder", [0, 1, 1, 2])):
        old, new = (getattr(getattr(m, stack), key) for m in (wholes, parts))
        assert len(new) == len(taken)
        for i, layer in enumerate(taken):
            state = new[i].state_dict()
            for name, tensor in old[layer].state_dict().items():
                if "relative" not in name:
                    assert torch.equal(state[name], tensor), name
    if kind == "t5":
        bias = "layer.0.SelfAttention.relative_attention_bias.weight"
        for stack in ("encoder", "decoder"):
            mine, theirs = (getattr(m, stack).block[0].state_dict()[bias] for m in (found, model))
            assert torch.equal(mine, theirs)


def in_memory(recipe: dict[str, Any], **models: Any) -> Any:
    return geo.run(recipe, models=models, data=None)


def test_identity_growth_leaves_what_is_computed_unchanged() -> None:
    """o_proj and down_proj of the new layers at 0: they add nothing."""
    model = llama(1)
    zero = [{"filter": f, "value": 0.0} for f in ("o_proj", "down_proj")]
    new = {"parameters": {"scale": [*zero, {"value": 1.0}]}}
    slices = [span("a", 0, 4)]
    slices.insert(1, {"sources": [{"model": "a", "layer_range": [2, 4], **new}]})
    found = in_memory({"merge_method": "passthrough", "slices": slices}, a=model)
    grown = LlamaForCausalLM(LlamaConfig(num_hidden_layers=6, **SIZES)).eval()
    grown.load_state_dict(found.state)
    assert torch.equal(logits(grown), logits(model))


def test_a_slice_is_merged_by_its_own_models_ranges_and_gradients() -> None:
    """One model twice in a slice, too; the last slice's models all have a part in the head."""
    a, b = llama(1), llama(2)
    source = {"model": "a", "layer_range": [0, 2], "parameters": {"weight": 3}}
    slices: list[dict[str, Any]] = [
        {"sources": [source, {"model": "a", "layer_range": [2, 4], "parameters": {"weight": 1}}]},
        {
            "sources": [
                {"model": "b", "layer_range": [0, 3], "parameters": {"weight": [0, 1]}},
                {"model": "a", "layer_range": [1, 4], "parameters": {"weight": [1, 0]}},
            ]
        },
    ]
    found = in_memory({"merge_method": "linear", "slices": slices}, a=a, b=b).state
    one, two = a.state_dict(), b.state_dict()
    name = "model.layers.{}.mlp.up_proj.weight"

    def close(out: str, expected: torch.Tensor) -> None:
        torch.testing.assert_close(found[out], expected)

    for i in range(2):
        close(name.format(i), 0.75 * one[name.format(i)] + 0.25 * one[name.format(i + 2)])
    for i, t in enumerate((0.0, 0.5, 1.0)):
        mixed = t * two[name.format(i)] + (1 - t) * one[name.format(i + 1)]
        close(name.format(2 + i), mixed)
    close("model.embed_tokens.weight", one["model.embed_tokens.weight"])
    close("lm_head.weight", one["lm_head.weight"])


def test_the_last_slices_models_all_have_a_part_in_the_head() -> None:
    a, b = llama(1), llama(2)
    slices = [
        span("a", 0, 3),
        {"sources": [{"model": m, "layer_range": [2, 4]} for m in "ab"]},
    ]
    found = in_memory({"merge_method": "linear", "slices": slices}, a=a, b=b).state
    for name in ("lm_head.weight", "model.norm.weight"):
        mean = (a.state_dict()[name] + b.state_dict()[name]) / 2
        torch.testing.assert_close(found[name], mean)
    embed = "model.embed_tokens.weight"
    assert torch.equal(found[embed], a.state_dict()[embed])


def test_methods_with_a_base_stack_too() -> None:
    """As in mergekit, filters of a model's weight see its layers, those of lambda the output's."""
    base, a = llama(0), llama(1)
    weight = [{"filter": "layers.1.", "value": 1.0}, {"value": 0.5}]
    slices = [
        {"sources": [{"model": "base", "layer_range": [s, e]}, {
            "model": "a", "layer_range": [s, e], "parameters": {"weight": weight}}]}
        for s, e in ((0, 3), (1, 4))
    ]  # fmt: skip
    recipe = {
        "merge_method": "task_arithmetic", "base_model": "base", "slices": slices,
        "parameters": {"lambda": [{"filter": "layers.5.", "value": 0.2}, {"value": 1}]},
    }  # fmt: skip
    found = in_memory(recipe, base=base, a=a)
    assert not found.report.warnings
    name = "model.layers.{}.self_attn.q_proj.weight"
    one, two = base.state_dict(), a.state_dict()
    for i, taken in enumerate((0, 1, 2, 1, 2, 3)):
        share = (1.0 if taken == 1 else 0.5) * (0.2 if i == 5 else 1)
        merged = torch.lerp(one[name.format(taken)], two[name.format(taken)], share)
        torch.testing.assert_close(found.state[name.format(i)], merged)


def test_pieces_of_models_of_unlike_depth_without_a_configuration() -> None:
    def state(layers: int, start: float) -> dict[str, torch.Tensor]:
        named = {f"layers.{i}.w": torch.full((2,), start + i) for i in range(layers)}
        return {"embed.w": torch.full((2,), start), **named, "norm.w": torch.full((2,), start)}

    slices = [span("a", 0, 2), span("b", 3, 5)]
    recipe = {"merge_method": "passthrough", "slices": slices}
    found = in_memory(recipe, a=state(2, 0.0), b=state(5, 10.0)).state
    assert {name: tensor[0].item() for name, tensor in found.items()} == {
        "embed.w": 0, "layers.0.w": 0, "layers.1.w": 1, "layers.2.w": 13, "layers.3.w": 14,
        "norm.w": 10,
    }  # fmt: skip


def test_layers_of_multi_token_prediction_come_behind_those_of_the_stack() -> None:
    """They are no layers of it: those of the last slice's model, in whole models as well."""

    def state(layers: int, start: float) -> dict[str, torch.Tensor]:
        named = [f"layers.{i}.w" for i in range(layers + 1)] + [f"layers.{layers}.eh_proj.weight"]
        return {name: torch.full((2,), start + int(name.split(".")[1])) for name in named}

    recipe = {"merge_method": "passthrough", "slices": [span("a", 0, 2), span("b", 1, 3)]}
    found = in_memory(recipe, a=state(2, 0.0), b=state(3, 10.0)).state
    assert {name: tensor[0].item() for name, tensor in found.items()} == {
        "layers.0.w": 0, "layers.1.w": 1, "layers.2.w": 11, "layers.3.w": 12, "layers.4.w": 13,
        "layers.4.eh_proj.weight": 13,
    }  # fmt: skip
    both = [{"model": m, "layer_range": [0, 2], "parameters": {"weight": [0, 1]}} for m in "ab"]
    whole = in_memory({"merge_method": "linear", "slices": [{"sources": both}],
                       "parameters": {"normalize": False}},
                      a=state(2, 0.0), b=state(2, 10.0))  # fmt: skip
    assert whole.measurements.geometry is not None, "slices of whole models are no stack"
    assert [whole.state[f"layers.{i}.w"][0].item() for i in range(3)] == [0, 12, 0]
    with pytest.raises(RecipeError, match=r"\[1, 4\] goes beyond b, which has 3 layers"):
        in_memory({**recipe, "slices": [span("b", 1, 4)]}, b=state(3, 0.0))


def test_a_base_that_is_in_no_slice_is_told() -> None:
    slices = [span("a", 0, 2), span("a", 1, 4)]
    recipe = {"merge_method": "passthrough", "base_model": "base", "slices": slices}
    found = in_memory(recipe, a=llama(1), base=llama(0))
    assert "base_model base is in no slice, and has no part in passthrough" in found.report.warnings


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stacks")
    for name, seed, layers in (("a", 1, 4), ("b", 2, 4), ("short", 3, 2)):
        llama(seed, layers).save_pretrained(folder / name)  # type: ignore[operator]
    return folder


@pytest.mark.slow
def test_an_output_tells_where_its_layers_are_from(saved: Path, tmp_path: Path) -> None:
    """In report and merge.json; what a dry run shows, and a change of the plan starts over."""
    a, short = str(saved / "a"), str(saved / "short")
    recipe = {"merge_method": "passthrough", "slices": [span(a, 0, 3), span(short, 1, 2)]}
    plan = dry_run(recipe)
    (tmp_path / "r.yml").write_text(yaml.safe_dump(recipe))
    said = CliRunner().invoke(app, ["run", str(tmp_path / "r.yml"), "--dry-run"]).output
    assert "model.layers.0 to 2" in said
    assert f"{short} 1" in " ".join(said.split())
    out = tmp_path / "out"
    result = geo.run(recipe, out, data=None, output=KEPT)
    layers = json.loads((out / "merge.json").read_text())["layers"]
    assert layers[3] == {"layer": "model.layers.3", "sources": [[short, 1]]}
    assert [layer.model_dump(mode="json") for layer in result.measurements.layers] == layers
    assert plan.measurements.layers == result.measurements.layers
    config = json.loads((out / "config.json").read_text())
    assert config["num_hidden_layers"] == 4
    assert plan.measurements.written == sum(
        tensor.nbytes for tensor in load_file(out / "model.safetensors").values()
    )
    again = geo.run(out / "recipe.yml", tmp_path / "again", data=None, output=KEPT)
    assert again.out is not None
    assert (again.out / "model.safetensors").read_bytes() == (
        out / "model.safetensors"
    ).read_bytes()


def test_a_page_is_written_of_a_mean_of_layers_in_unlike_places(
    saved: Path, tmp_path: Path
) -> None:
    sources = [
        {"model": str(saved / name), "layer_range": [at, at + 1]} for at, name in enumerate("ab")
    ]
    slices = [{"sources": sources, "parameters": {"weight": 1}}]
    geo.run({"merge_method": "linear", "slices": slices}, tmp_path / "out", data=None, output=KEPT)
    assert (tmp_path / "out/report.html").is_file()


def test_models_in_two_dtypes_make_a_stack_of_the_firsts(saved: Path, tmp_path: Path) -> None:
    half = llama(2).to(torch.bfloat16)
    half.save_pretrained(tmp_path / "half")  # type: ignore[operator]
    slices = [span(str(saved / "a"), 0, 2), span(str(tmp_path / "half"), 0, 2)]
    geo.run({"merge_method": "passthrough", "slices": slices}, tmp_path / "out", data=None,
            output=KEPT)  # fmt: skip
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("slices", "said"),
    [
        ([span("a", 0, 5)], r"layer_range \[0, 5\] goes beyond a, which has 4 layers .*\[0, 4\]"),
        ([span("a", 2, 2)], r"\[2, 2\] is empty: the upper bound is exclusive .*\[2, 3\] takes"),
        ([span("a", 3, 1)], r"\[3, 1\] is reversed .*write \[1, 3\]"),
        ([span("a", 0, -1)], r"\[0, -1\] goes below layer 0 .*count from 0"),
        ([{"sources": []}], r"sources: list should have at least 1 item"),
        ([{}], "sources is missing"),
        (
            [{"sources": [{"model": "a", "layer_range": [0, 2]},
                          {"model": "b", "layer_range": [0, 3]}]}],
            r"\[0, 2\] of a and \[0, 3\] of b: 2 layers cannot be merged with 3 .*one length",
        ),
    ],
)  # fmt: skip
def test_slices_that_are_refused(slices: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        in_memory({"merge_method": "linear", "slices": slices}, a=llama(1), b=llama(2))


def test_unlike_models_do_not_stack() -> None:
    slices = [span("a", 0, 2), span("b", 2, 4)]
    recipe = {"merge_method": "passthrough", "slices": [*slices, span("a", 3, 4)]}
    wide = llama(2, hidden_size=32)
    with pytest.raises(IncompatibleError, match="models of widths 16 and 32"):
        in_memory(recipe, a=llama(1), b=wide)
    with pytest.raises(IncompatibleError, match=r"different architectures: .*Llama.*Phi3"):
        in_memory(recipe, a=llama(1), b=phi3(2))
    with pytest.raises(RecipeError, match=r"embed_tokens_per_layer.* a part for each layer"):
        in_memory({"merge_method": "passthrough", "slices": [span("a", 0, 4), span("a", 3, 4)]},
                  a=gemma4(1))  # fmt: skip
    with pytest.raises(RecipeError, match="greedy chooses a point between models by loss"):
        in_memory({**recipe, "merge_method": "greedy"}, a=llama(1), b=llama(2))


def test_layers_of_two_kinds_are_not_merged_with_one_another() -> None:
    slices = [{"sources": [{"model": "a", "layer_range": [0, 1]},
                           {"model": "b", "layer_range": [1, 2]}]}]  # fmt: skip
    with pytest.raises(GeoError, match=r"layer 0 of .* full_attention and layer 1 of .* sliding"):
        in_memory({"merge_method": "linear", "slices": slices}, a=qwen3(1), b=qwen3(2))
    states = [{f"layers.{i}.w": torch.ones(1) for i in range(3)} for _ in range(2)]
    states[1]["layers.1.extra"] = torch.ones(1)
    with pytest.raises(RecipeError, match=r"layer 0 of .* and layer 1 of .*layers.0.extra is in"):
        in_memory({"merge_method": "linear", "slices": slices}, a=states[0], b=states[1])


@pytest.mark.slow
def test_layers_that_are_made_by_their_number_keep_their_kind() -> None:
    """A pattern that the configuration cannot say otherwise."""
    sizes = {**SIZES, "num_hidden_layers": 4, "num_experts": 2, "mamba_d_state": 4}
    config = JambaConfig(**sizes, attn_layer_period=2, attn_layer_offset=1, use_mamba_kernels=False)
    model = drawn(JambaForCausalLM(config), 1)
    recipe = {"merge_method": "passthrough", "slices": [span("a", 0, 2), span("a", 1, 3)]}
    with pytest.raises(RecipeError, match=r"layer 2 of the output has .*, and layer 1 of .*kind"):
        in_memory(recipe, a=model)
    again = {"merge_method": "passthrough", "slices": [span("a", 0, 2), span("a", 0, 4)]}
    assert len({n.split(".")[2] for n in in_memory(again, a=model).state if "layers" in n}) == 6
    sizes = {"vocab_size": 24, "n_embd": 16, "n_head": 2, "n_layer": 3, "n_positions": 16}
    scaled = GPT2LMHeadModel(GPT2Config(**sizes, scale_attn_by_inverse_layer_idx=True))
    recipe = {"merge_method": "passthrough", "slices": [span("a", 1, 3)]}
    warned = in_memory(recipe, a=scaled).report.warnings
    assert any("attn.scaling" in line and "makes layers by their number" in line for line in warned)


def test_which_of_several_stacks_is_sliced_has_to_be_said() -> None:
    towers = {f"{tower}.layers.{i}.w": torch.ones(2) for tower in "xy" for i in range(2)}
    recipe = {"merge_method": "passthrough", "slices": [span("a", 0, 1)]}
    with pytest.raises(RecipeError, match=r"several stacks of layers \(x.layers, y.layers\).*mod"):
        in_memory(recipe, a=towers)


FEW = geo.EvalData(max_examples=40, seq_len=16)


@pytest.mark.slow
def test_a_grown_model_has_the_loss_of_its_parent(family: Path, tmp_path: Path) -> None:
    """Identity growth of a trained model; measured without barriers, and that is said."""
    a = str(family / "a")
    scale = [{"filter": f, "value": 0} for f in ("o_proj", "down_proj")]
    new = {"model": a, "layer_range": [0, 2], "parameters": {"scale": [*scale, {"value": 1}]}}
    slices = [span(a, 0, 1), {"sources": [new]}, span(a, 1, 2)]
    recipe = {"merge_method": "passthrough", "slices": slices}
    found = geo.run(recipe, tmp_path / "out", data=FEW, output=KEPT)
    parent, output = found.measurements.losses
    assert output.loss == pytest.approx(parent.loss, rel=1e-6)
    assert [one.what for one in found.report.not_measured] == ["barriers", "sharpness"]
    assert "of another architecture" in found.report.not_measured[0].why
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Most stacks are" not in card, "it is told with the number, of those that are worse"


@pytest.mark.slow
def test_parents_of_a_stack_are_measured_as_they_are(family: Path) -> None:
    a, b = (str(family / name) for name in "ab")
    recipe = {"merge_method": "passthrough", "slices": [span(a, 0, 2), span(b, 1, 2)]}
    found = geo.run(recipe, data=FEW).measurements
    assert [entry.role for entry in found.losses] == ["parent", "parent", "output"]
    assert found.losses[2].loss > found.losses[0].loss
    assert (found.geometry, found.barriers) == (None, [])
    assert [len(entry.layers) for entry in found.influence] == [2, 2, 3]
