"""Small checkpoints for a Hub to hold."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 8}


def make_model(folder: Path, rows: int = 8) -> Path:
    """A model of two tensors, seeded by the folder's name."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(sum(folder.name.encode()))
    tensors = {name: torch.randn(rows, 16, generator=generator) for name in ("v", "w")}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def shard_name(number: int) -> str:
    return f"model-0000{number}-of-00002.safetensors"


def shard(whole: Path, folder: Path) -> Path:
    """The same model with a shard per tensor."""
    folder.mkdir()
    weight_map = {}
    for number, (name, tensor) in enumerate(load_file(whole / "model.safetensors").items(), 1):
        weight_map[name] = shard_name(number)
        save_file({name: tensor}, folder / shard_name(number), {"format": "pt"})
    index = {"metadata": {"total_size": 1024}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_bytes((whole / "config.json").read_bytes())
    return folder
