"""How the small models of conftest.py are made."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from tests.demo import train


def random_state(seed: object) -> dict[str, Tensor]:
    """A few tensors, different for every seed."""
    draw = torch.Generator().manual_seed(sum(str(seed).encode()))
    return {
        "model.embed_tokens.weight": torch.randn(8, 4, generator=draw),
        "model.layers.0.mlp.up_proj.weight": torch.randn(6, 4, generator=draw),
        "model.norm.weight": torch.randn(4, generator=draw),
    }


def make_family(folder: Path) -> None:
    """The demo's models, of half its depth and width."""
    train.make(folder, plan=replace(train.BRIEF, width=64, mlp=152, layers=2))


def save_untrained(family: Path, folder: Path, layers: int) -> Path:
    """Random models that lie near each other, with the tokenizer of the family."""
    config = json.loads((family / "base" / "config.json").read_text())
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config["vocab_size"], hidden_size=16, intermediate_size=32,
            num_hidden_layers=layers, num_attention_heads=2, num_key_value_heads=1,
            tie_word_embeddings=True,
        )
    )  # fmt: skip
    for name in ("base", "a", "b", "c"):
        model.save_pretrained(folder / name)
        for file in (family / "base").glob("token*"):
            shutil.copy(file, folder / name)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
    return folder
