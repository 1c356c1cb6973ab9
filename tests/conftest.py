"""Small real models that several tests share."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from tests.demo import train

ROOT = Path(__file__).parent.parent
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 8,
    "hidden_size": 4,
}

Save = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def _calm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two test processes share two cores; nothing is kept in the user's cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(scope="module", autouse=True)
def _little_to_collect() -> None:
    """What is there stays: a `gc.collect()` at a training's end takes 0.3 s to look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write a checkpoint folder of the given tensors."""

    def write(
        name: str,
        state: Mapping[str, Tensor] | None = None,
        config: Mapping[str, object] | None = None,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        tensors = dict(random_state(name) if state is None else state)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps({**LLAMA, **(config or {})}))
        return folder

    return write


def random_state(seed: object) -> dict[str, Tensor]:
    """A few tensors, different for every seed."""
    draw = torch.Generator().manual_seed(sum(str(seed).encode()))
    return {
        "model.embed_tokens.weight": torch.randn(8, 4, generator=draw),
        "model.layers.0.mlp.up_proj.weight": torch.randn(6, 4, generator=draw),
        "model.norm.weight": torch.randn(4, generator=draw),
    }


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a briefly trained Llama, three fine-tunes, a stranger: base, a, b, c, ...

    Of half the demo's depth and width. The test processes share it.
    """
    folder = tmp_path_factory.getbasetemp() / "family"
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent.parent / "family"
    with FileLock(folder.with_suffix(".lock")):
        train.make(folder, plan=replace(train.BRIEF, width=64, mlp=152, layers=2))
    return folder


@pytest.fixture(scope="session")
def small(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base, a, b, c: of the family's vocabulary and a tenth of its size."""
    return save_untrained(family, tmp_path_factory.mktemp("small"), layers=1)


@pytest.fixture(scope="session")
def deep(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, of four layers."""
    return save_untrained(family, tmp_path_factory.mktemp("deep"), layers=4)


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


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def geo_merge(tmp_path: Path) -> Run:
    """Run the command in a process of its own, in an empty folder."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mergekit_geo", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            check=False,
            **options,  # type: ignore[call-overload]
        )

    return run
