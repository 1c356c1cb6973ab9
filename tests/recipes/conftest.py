"""A little text to train on, and models that take little time."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mergekit_geo.data.text import builtin_documents


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve documents that are not among those held out."""
    path = tmp_path_factory.mktemp("text") / "train.jsonl"
    lines = [json.dumps({"text": d.text[:400]}) for d in builtin_documents("train")[:12]]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="session")
def small(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base, a, b, c: of the family's vocabulary and a tenth of its size."""
    folder = tmp_path_factory.mktemp("small")
    config = json.loads((family / "base" / "config.json").read_text())
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config["vocab_size"], hidden_size=16, intermediate_size=32,
            num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
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
