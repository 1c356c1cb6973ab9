"""What mergekit's own merge tests expect of its merges, expected of ours.

The facts are from tests/ of arcee-ai/mergekit: which merges have to work on which models, and what
has to be in their outputs. All else is written anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoTokenizer,
    CLIPVisionConfig,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    LlamaTokenizerFast,
    LlavaConfig,
    PreTrainedConfig,
)

import mergekit_geo as geo
from mergekit_geo.errors import GeoError
from mergekit_geo.modules.load import quiet_transformers
from tests.recipes.small_models import class_of, drawn

pytestmark = pytest.mark.slow
WORDS = 64
EMBED = "model.embed_tokens.weight"
LLAMA: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2,
}  # fmt: skip


def _tokenizer(folder: Path, added: list[str]) -> LlamaTokenizerFast:
    """Sixty-four words, three of them special; no merges."""
    words = ["<unk>", "<s>", "</s>", *(f"_tok_{number}" for number in range(3, WORDS))]
    model = {"type": "BPE", "vocab": {word: i for i, word in enumerate(words)}, "merges": []}
    path = folder / "words.json"
    Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], "model": model})).save(
        str(path)
    )
    found = LlamaTokenizerFast(tokenizer_file=str(path))
    found.add_tokens(added)
    return found


def _save(folder: Path, config: PreTrainedConfig, seed: int) -> None:
    model = class_of(config)(config)
    model.load_state_dict(drawn(config, seed), strict=False)
    with quiet_transformers():
        model.save_pretrained(folder)


def _llava() -> LlavaConfig:
    vision = CLIPVisionConfig(
        image_size=8, patch_size=4, num_hidden_layers=2, num_attention_heads=2, hidden_size=16,
        intermediate_size=32,
    )  # fmt: skip
    text = LlamaConfig(vocab_size=WORDS, **LLAMA)
    return LlavaConfig(vision_config=vision, text_config=text, image_seq_length=4)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models without tokenizers, and three Llamas with: plain, with two tokens, with too many."""
    folder = tmp_path_factory.mktemp("models")
    configs: dict[str, PreTrainedConfig] = {
        "llama": LlamaConfig(vocab_size=WORDS, **LLAMA),
        "granite": GraniteConfig(vocab_size=WORDS, num_key_value_heads=2, **LLAMA),
        "gpt2": GPT2Config(vocab_size=WORDS, n_embd=16, n_head=2, n_layer=3, n_positions=32),
        "vlm": _llava(),
    }
    for family, config in configs.items():
        for seed, letter in enumerate("abc"):
            _save(folder / f"{family}-{letter}", config, seed)
    named = {
        "base": (WORDS, []),
        "chatml": (WORDS + 2, ["<|im_start|>", "<|im_end|>"]),
        "padded": (WORDS, [f"<UNUSED_{number}>" for number in range(4)]),
    }
    for seed, (name, (rows, added)) in enumerate(named.items(), 10):
        _save(folder / name, LlamaConfig(vocab_size=rows, **LLAMA), seed)
        _tokenizer(folder, added).save_pretrained(folder / name)
    return folder


Merge = Callable[..., Path]


@pytest.fixture
def merged(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Merge:
    """Run a recipe on the models by their names."""
    monkeypatch.chdir(models)

    def run(recipe: Mapping[str, Any], **settings: Any) -> Path:
        out, how = tmp_path / "out", geo.OutputConfig(fsync=False, overwrite=True)
        geo.run(recipe, out, data=None, output=how, **settings)
        return out

    return run


def whole(out: Path) -> dict[str, Tensor]:
    """The tensors: finite, and just those that transformers expects."""
    with quiet_transformers():
        found, told = class_of(AutoConfig.from_pretrained(out)).from_pretrained(
            out, output_loading_info=True
        )
    assert found
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tensors = load_file(out / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    return tensors


def two(
    method: str, base: str | None = None, of: str = "llama", **parameters: Any
) -> dict[str, Any]:
    """A recipe of two models with weights, in bfloat16."""
    found = {
        "merge_method": method, "dtype": "bfloat16", "parameters": parameters,
        "models": [
            {"model": f"{of}-a", "parameters": {"weight": 0.6}},
            {"model": f"{of}-b", "parameters": {"weight": 0.4}},
        ],
    }  # fmt: skip
    return found | ({"base_model": f"{of}-{base}"} if base else {})


TRIED = {
    "linear": two("linear"),
    "slerp": two("slerp", "a", t=0.35),
    "task_arithmetic": two("task_arithmetic", "c"),
    "breadcrumbs": two("breadcrumbs", "c"),
    "ties": two("ties", "c", density=0.3),
    "sce": two("sce", "c", select_topk=0.5),
    "ram": two("ram", "c"),
    "ramplus_tl": two("ramplus_tl", "c", r=0.05, alpha=1.0),
    "multislerp": two("multislerp", "c"),
    "dare_ties": two("dare_ties", "c", density=0.66),
    "model_stock": two("model_stock", "c"),
    "model_stock of rows": two("model_stock", "c", filter_wise=True),
    "arcee_fusion": two("arcee_fusion", "a"),
    "nearswap": two("nearswap", "a", t=0.0001),
    "della": two("della", "c", density=0.66, epsilon=0.05, **{"lambda": 0.5}),
    "karcher": two("karcher", "c", max_iter=5, tol=1e-5),
}  # fmt: skip


@pytest.mark.parametrize("recipe", TRIED.values(), ids=TRIED)
def test_every_method_merges_models_without_tokenizers(
    recipe: dict[str, Any], merged: Merge
) -> None:
    tensors = whole(merged(recipe))
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


@pytest.mark.parametrize("base", [None, "c"])
@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_nuslerp_merges_whole_tensors_rows_and_columns(
    base: str | None, rows: bool, flat: bool, merged: Merge
) -> None:
    whole(merged(two("nuslerp", base, nuslerp_row_wise=rows, nuslerp_flatten=flat)))


def test_nuslerp_takes_weights_whose_sum_is_zero(merged: Merge) -> None:
    recipe = two("nuslerp", "c", nuslerp_row_wise=False, nuslerp_flatten=False)
    for model, weight in zip(recipe["models"], (-0.5, 0.5), strict=True):
        model["parameters"]["weight"] = weight
    whole(merged(recipe))


def test_della_refuses_an_epsilon_that_no_probability_has(merged: Merge) -> None:
    with pytest.raises(GeoError, match="epsilon"):
        merged(two("della", "c", density=0.66, epsilon=1.35, **{"lambda": 0.5}))


VISION = ("linear", "slerp", "task_arithmetic", "ties", "dare_ties", "multislerp", "model_stock")


@pytest.mark.parametrize("method", VISION)
def test_vision_language_models_merge(method: str, merged: Merge) -> None:
    base = {"linear": None, "slerp": "a"}.get(method, "c")
    known = {"slerp": {"t": 0.35}, "ties": {"density": 0.3}, "dare_ties": {"density": 0.66}}
    tensors = whole(merged(two(method, base, "vlm", **known.get(method, {}))))
    assert any("vision_tower" in name for name in tensors)


@pytest.mark.parametrize("model", ["granite-a", "gpt2-a"])
def test_a_model_is_copied(model: str, models: Path, merged: Merge) -> None:
    tensors = whole(
        merged({"merge_method": "passthrough", "models": [{"model": model}], "dtype": "bfloat16"})
    )
    source = load_file(models / model / "model.safetensors")
    assert all(torch.equal(tensors[name], source[name].bfloat16()) for name in tensors)


@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_granite_merges(method: str, merged: Merge) -> None:
    slerp = method == "slerp"
    whole(merged(two(method, "a" if slerp else None, "granite", **({"t": 0.5} if slerp else {}))))


def test_a_gpt2_stacked_on_itself_has_twice_its_layers(models: Path, merged: Merge) -> None:
    part = {"sources": [{"model": "gpt2-a", "layer_range": [0, 3]}]}
    out = merged({"merge_method": "passthrough", "slices": [part] * 2, "dtype": "bfloat16"})
    tensors = whole(out)
    assert AutoConfig.from_pretrained(out).n_layer == 6
    source = load_file(models / "gpt2-a" / "model.safetensors")
    own = [name for name in source if ".h.0." in name]
    assert own
    for name in own:
        assert torch.equal(tensors[name.replace(".h.0.", ".h.3.")], source[name].bfloat16())


def test_what_a_filter_names_is_scaled_and_nothing_else(models: Path, merged: Merge) -> None:
    scale = [{"filter": "o_proj", "value": 0}, {"value": 1}]
    model = {"model": "llama-a", "parameters": {"scale": scale}}
    tensors = whole(merged({"merge_method": "passthrough", "models": [model]}))
    source = load_file(models / "llama-a" / "model.safetensors")
    for name, tensor in tensors.items():
        assert torch.equal(tensor, source[name] * ("o_proj" not in name)), name


# Tokenizers


def tokens_of(*models: str, method: str = "linear", **keys: Any) -> dict[str, Any]:
    """A recipe of models with equal weights, in float32."""
    listed = [{"model": name, "parameters": {"weight": 1.0}} for name in models]
    return {
        "merge_method": method, "base_model": models[0], "models": listed, "dtype": "float32",
        **keys,
    }  # fmt: skip


class Rows:
    """Rows of a model's embedding by token."""

    def __init__(self, folder: Path) -> None:
        self.vocabulary: dict[str, int] = LlamaTokenizerFast.from_pretrained(folder).get_vocab()
        self.added = LlamaTokenizerFast.from_pretrained(folder).added_tokens_decoder
        self.tensor = load_file(folder / "model.safetensors")[EMBED]

    def __getitem__(self, token: str) -> Tensor:
        return self.tensor[self.vocabulary[token]]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


ALL = ("base", "padded", "chatml")
CHATML = ("<|im_start|>", "<|im_end|>")


def test_without_a_tokenizer_setting_unlike_rows_are_refused_with_a_way_out(
    merged: Merge,
) -> None:
    with pytest.raises(GeoError, match=r"(?s)tokenizer_source.*truncate"):
        merged(tokens_of(*ALL))


def test_unlike_rows_are_cut_where_that_is_asked_for(models: Path, merged: Merge) -> None:
    """As mergekit does without a word; the tokenizer is the base's."""
    reshape = geo.ReshapeConfig(truncate_embeddings=True)
    out = merged(tokens_of(*ALL), reshape=reshape)
    whole(out)
    found, own = Rows(out), [Rows(models / name) for name in ALL]
    assert (len(found.vocabulary), len(found.added)) == (64, 3)
    close(found.tensor, sum(rows.tensor[:64] for rows in own) / 3)  # type: ignore[arg-type]


def test_the_base_gives_the_tokenizer(models: Path, merged: Merge) -> None:
    out = merged(tokens_of(*ALL, tokenizer_source="base"))
    whole(out)
    found, own = Rows(out), [Rows(models / name) for name in ALL]
    assert (len(found.vocabulary), len(found.added), len(found.tensor)) == (64, 3, 64)
    close(found["_tok_9"], sum(rows["_tok_9"] for rows in own) / 3)  # type: ignore[arg-type]


def test_the_union_has_what_any_model_uses(models: Path, merged: Merge) -> None:
    """Words beyond the rows of their model are in no union."""
    out = merged(tokens_of(*ALL, tokenizer_source="union"))
    tensors = whole(out)
    found, chatml = Rows(out), Rows(models / "chatml")
    assert (len(found.vocabulary), len(found.added)) == (66, 5)
    assert not [token for token in found.vocabulary if "UNUSED" in token]
    assert len(tensors["lm_head.weight"]) == AutoConfig.from_pretrained(out).vocab_size == 66
    for token in CHATML:
        close(found[token], chatml[token])


def test_one_of_the_models_gives_the_tokenizer(models: Path, merged: Merge) -> None:
    found = Rows(merged(tokens_of(*ALL, tokenizer_source="chatml")))
    assert len(found.vocabulary) == 66
    assert found.vocabulary["<|im_start|>"] == 64


def test_slerp_takes_a_union(models: Path, merged: Merge) -> None:
    recipe = tokens_of("base", "chatml", method="slerp", tokenizer_source="union")
    out = merged(recipe | {"parameters": {"t": 0.5}})
    whole(out)
    assert set(CHATML) < set(Rows(out).vocabulary)


def test_a_token_is_forced_upon_all(models: Path, merged: Merge) -> None:
    tokens = {
        "_tok_10": {"source": "chatml", "force": True},
        "_tok_11": {"source": "base", "force": True},
    }
    tokenizer = {"source": "union", "tokens": tokens}
    found = Rows(merged(tokens_of("base", "chatml", tokenizer=tokenizer)))
    base, chatml = Rows(models / "base"), Rows(models / "chatml")
    close(found["_tok_10"], chatml["_tok_10"])
    close(found["_tok_11"], base["_tok_11"])
    close(found["_tok_12"], (base["_tok_12"] + chatml["_tok_12"]) / 2)


def test_a_token_is_taken_from_another_by_id_or_name_or_is_zero(
    models: Path, merged: Merge
) -> None:
    by_id = {"kind": "model_token", "model": "chatml", "token_id": 64}
    by_name = {"kind": "model_token", "model": "base", "token": "<s>"}
    tokens = {
        "_tok_20": {"source": by_id, "force": True},
        "_tok_21": {"source": by_name, "force": True},
        "_tok_22": {"source": {"kind": "zero"}, "force": True},
    }
    tokenizer = {"source": "base", "tokens": tokens}
    found = Rows(merged(tokens_of("base", "chatml", tokenizer=tokenizer)))
    assert len(found.vocabulary) == 64
    close(found["_tok_20"], Rows(models / "chatml").tensor[64])
    close(found["_tok_21"], Rows(models / "base")["<s>"])
    assert not found["_tok_22"].any()


def test_a_token_that_is_listed_is_added(models: Path, merged: Merge) -> None:
    tokens = {"<|new|>": {"source": {"kind": "model_token", "model": "base", "token": "_tok_5"}}}
    tokenizer = {"source": "base", "tokens": tokens}
    found = Rows(merged(tokens_of("base", "chatml", tokenizer=tokenizer)))
    assert len(found.vocabulary) == 65
    close(found["<|new|>"], Rows(models / "base")["_tok_5"])


def test_rows_are_padded_with_their_mean(merged: Merge) -> None:
    tokenizer = {"source": "base", "pad_to_multiple_of": 16}
    out = merged(tokens_of("chatml", tokenizer=tokenizer))
    whole(out)
    found = Rows(out)
    assert (len(found.vocabulary), len(found.tensor)) == (66, 80)
    assert AutoConfig.from_pretrained(out).vocab_size == 80
    close(found.tensor[66:], found.tensor[:66].mean(0).expand(14, -1))


# Chat templates


def _template(folder: Path) -> str | None:
    found: str | None = AutoTokenizer.from_pretrained(folder).chat_template
    return found


@pytest.mark.parametrize(
    ("said", "holds"),
    [("chatml", "<|im_start|>"), ("{{messages[0]['content']}}", "{{messages[0]['content']}}")],
)
def test_a_chat_template_is_written(said: str, holds: str, merged: Merge) -> None:
    """One of the models has no tokenizer at all."""
    recipe = tokens_of("base", "llama-b", chat_template=said)
    assert holds in (_template(merged(recipe)) or "")


def test_without_a_setting_there_is_no_chat_template(merged: Merge) -> None:
    assert not _template(merged(tokens_of("base", "llama-b")))
