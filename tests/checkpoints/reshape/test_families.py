"""Unions of tokenizers in every form, in architectures that keep their rows elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.nn import Module
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertTokenizer,
    CLIPVisionConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

import mergekit_geo as geo
from tests.checkpoints.reshape.vocabularies import TEXT, tokenizer

pytestmark = pytest.mark.slow
NEW = "<new>"
LETTERS = [*"▁abcdefghijklmnopqrstuvwxyz"]
WORDS = sorted(set(TEXT.split()))


def gpt2(folder: Path, extra: int) -> Module:
    """vocab.json and merges.txt; the added token in a file of its own."""
    Tokenizer.from_str(tokenizer().backend_tokenizer.to_str()).model.save(str(folder))
    said = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "</s>", "unk_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**said, "bos_token": "<s>"}))
    if extra:
        (folder / "added_tokens.json").write_text(json.dumps({NEW: 280}))
    heads = {"n_embd": 8, "n_head": 2, "n_layer": 1, "n_positions": 16}
    ids = {"bos_token_id": 0, "eos_token_id": 1}
    return GPT2LMHeadModel(GPT2Config(vocab_size=280 + extra, **heads, **ids))


def bert(folder: Path, extra: int) -> Module:
    """vocab.txt, whose pieces are words and letters; a bias beside the tied head."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    pieces += [*LETTERS[1:], *(f"##{letter}" for letter in LETTERS[1:])]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(pieces)) + "\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    found = BertTokenizer.from_pretrained(folder)
    if extra:
        found.add_tokens([NEW])
        found.save_pretrained(folder)
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1}
    return BertForMaskedLM(
        BertConfig(
            vocab_size=len(found), num_attention_heads=2, max_position_embeddings=16, **sizes
        )
    )


def bart(folder: Path, extra: int) -> Module:
    """Pieces with scores; rows in the last dimension of a buffer, and as wide as they are many."""
    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    words = [(f"▁{word}", -1.0 - i) for i, word in enumerate(WORDS)]
    pieces = Tokenizer(
        models.Unigram([*marks, *words, *((letter, -9.0) for letter in LETTERS)], unk_id=2)
    )
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
    pieces.decoder = decoders.Metaspace()  # type: ignore[assignment]
    found = PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    found.add_tokens([NEW] * extra, special_tokens=True)
    found.save_pretrained(folder)
    heads = {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
    sizes = {f"{part}_{what}": n for part in ("encoder", "decoder")
             for what, n in (("layers", 1), ("ffn_dim", 12))}  # fmt: skip
    width = len(marks) + len(words) + len(LETTERS)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 1}
    made = BartForConditionalGeneration(
        BartConfig(
            vocab_size=len(found), d_model=width + width % 2, max_position_embeddings=16,
            forced_eos_token_id=1, **heads, **sizes, **ids,
        )
    )  # fmt: skip
    made.final_logits_bias.normal_()
    return made


def llava(folder: Path, extra: int) -> Module:
    """The language model's configuration inside another."""
    found = tokenizer(["<image>", *[NEW] * extra])
    found.save_pretrained(folder)
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1}
    text = LlamaConfig(vocab_size=len(found), num_attention_heads=2, **sizes)
    vision = CLIPVisionConfig(image_size=8, patch_size=4, num_attention_heads=2, **sizes)
    config = LlavaConfig(text_config=text, vision_config=vision, image_token_index=280)
    return LlavaForConditionalGeneration(config)


FAMILIES: dict[str, tuple[Callable[[Path, int], Any], Any, int]] = {
    "gpt2": (gpt2, AutoModelForCausalLM, 1),
    "bert": (bert, AutoModelForMaskedLM, 2),
    "bart": (bart, AutoModelForSeq2SeqLM, 2),
    "llava": (llava, AutoModelForImageTextToText, 2),
}
"""How a model is made, what loads it, and how many of its tensors have one row a token."""


@pytest.mark.parametrize("family", FAMILIES)
def test_a_union(tmp_path: Path, family: str) -> None:
    make, loads, tables = FAMILIES[family]
    order = [tmp_path / "base", tmp_path / "more"]
    for extra, folder in enumerate(order):
        folder.mkdir()
        torch.manual_seed(extra)
        model = make(folder, extra)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
        model.save_pretrained(folder)
    geo.soup(
        order, tmp_path / "out", data=None, sharpness="off", reshape=geo.ReshapeConfig("union"),
        output=geo.OutputConfig(fsync=False),
    )  # fmt: skip
    found, base = (AutoTokenizer.from_pretrained(f) for f in (tmp_path / "out", order[0]))
    assert found(TEXT).input_ids == base(TEXT).input_ids
    assert (tmp_path / "out/tokenizer.json").is_file()
    _, info = loads.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    _check_rows(order, tmp_path / "out", found.get_vocab(), tables)


def test_a_model_without_the_token_of_its_pictures_loads(tmp_path: Path) -> None:
    """Its configuration has no null there: -1 is the id of no token."""
    llava(tmp_path, 0).save_pretrained(tmp_path / "model")
    tokenizer(["<image>"]).save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "text")
    found = geo.soup(
        [tmp_path / "model"] * 2, tmp_path / "out", data=None, sharpness="off",
        reshape=geo.ReshapeConfig(str(tmp_path / "text")), output=geo.OutputConfig(fsync=False),
    )  # fmt: skip
    assert any("image_token_index 280 is no token" in line for line in found.report.warnings)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    assert model.config.image_token_id == -1


def _check_rows(order: list[Path], out: Path, vocabulary: dict[str, int], tables: int) -> None:
    """Each token's row is the mean; that of the new one is the only model's."""
    first, second, made = (load_file(f / "model.safetensors") for f in (*order, out))
    rows = AutoTokenizer.from_pretrained(order[1]).get_vocab()
    unlike = [name for name in first if first[name].shape != second[name].shape]
    assert len(unlike) == tables
    for name in unlike:
        a, b, c = (one[name][0] if one[name].shape[0] == 1 else one[name]
                   for one in (first, second, made))  # fmt: skip
        assert len(c) == len(vocabulary)
        assert torch.allclose(c[vocabulary[NEW]], b[rows[NEW]], atol=1e-6)
        known = [token for token in rows if token != NEW]
        there, here = [rows[t] for t in known], [vocabulary[t] for t in known]
        assert torch.allclose(c[here], (a[here] + b[there]) / 2, atol=1e-6)
