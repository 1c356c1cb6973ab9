"""Models that look like Llamas and were never trained, of any size, made fast.

Weights are bf16: a base that all seeds have in common, plus noise of each seed's own.
"""

from __future__ import annotations

import json
import shutil
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import in_child, say

if TYPE_CHECKING:
    from torch import Tensor

SPREAD, NOISE = 0.02, 0.002
"""Standard deviations of the common base weights, and of what each model adds."""
BLOCK = 1 << 22
"""Elements made at once, out of a block of random numbers that is used again and again."""
BYTE_ALPHABET = 256
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Size:
    """The shape of a Llama."""

    layers: int
    hidden: int = 2048
    mlp: int = 5632
    heads: int = 32
    kv_heads: int = 4
    vocabulary: int = 32000

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor, in the order of the file."""
        outer = {"model.embed_tokens.weight": (self.vocabulary, self.hidden)}
        layers = {
            f"model.layers.{layer}.{name}.weight": shape
            for layer in range(self.layers)
            for name, shape in self._layer().items()
        }
        last = {
            "model.norm.weight": (self.hidden,),
            "lm_head.weight": (self.vocabulary, self.hidden),
        }
        return outer | layers | last

    def _layer(self) -> dict[str, tuple[int, ...]]:
        wide, kv = self.hidden, self.hidden // self.heads * self.kv_heads
        return {
            "input_layernorm": (wide,),
            "self_attn.q_proj": (wide, wide),
            "self_attn.k_proj": (kv, wide),
            "self_attn.v_proj": (kv, wide),
            "self_attn.o_proj": (wide, wide),
            "post_attention_layernorm": (wide,),
            "mlp.gate_proj": (self.mlp, wide),
            "mlp.up_proj": (self.mlp, wide),
            "mlp.down_proj": (wide, self.mlp),
        }

    @property
    def count(self) -> int:
        """Number of parameters."""
        return sum(prod(shape) for shape in self.shapes().values())

    def config(self) -> dict[str, Any]:
        """What config.json holds."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "intermediate_size": self.mlp,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 2048,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "torch_dtype": "bfloat16",
            "tie_word_embeddings": False,
            "bos_token_id": BYTE_ALPHABET,
            "eos_token_id": BYTE_ALPHABET,
        }


SIZES = {
    "0.02": Size(4, hidden=512, mlp=1408, heads=8, kv_heads=2, vocabulary=8000),
    "0.3": Size(4),
    "1.1": Size(22),
    "2.2": Size(47),
}
"""By billions of parameters; the first is for trying the script out."""


def make_models(seeds: dict[Path, int], size: Size) -> None:
    for folder, seed in seeds.items():
        make_model(folder, size, seed)


def make_model(folder: Path, size: Size, seed: int) -> None:
    """Write a checkpoint, whole or not at all: the base, common to all seeds, plus noise."""
    unfinished = folder.with_name(folder.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    write_weights(unfinished / "model.safetensors", size.shapes(), seed)
    (unfinished / "config.json").write_text(json.dumps(size.config(), indent=2))
    write_tokenizer(unfinished)
    unfinished.rename(folder)


def write_weights(path: Path, shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    """A safetensors file of bf16, written by hand, a block at a time."""
    import torch

    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    numbers = torch.randn(2 * BLOCK, generator=torch.Generator().manual_seed(0))
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for values in blocks(shapes, numbers, seed):
            file.write(values.view(torch.uint8).numpy().data)


def blocks(shapes: dict[str, tuple[int, ...]], numbers: Tensor, seed: int) -> Iterator[Tensor]:
    """The values: slices of `numbers` that start elsewhere for every block and model."""
    import torch

    position = 0
    for shape in shapes.values():
        for begin in range(0, prod(shape), BLOCK):
            count = min(BLOCK, prod(shape) - begin)
            position += 1
            base, noise = (position * 104_729) % BLOCK, ((position + 1 + seed) * 1_299_709) % BLOCK
            values = numbers[noise : noise + count] * NOISE
            values.add_(numbers[base : base + count], alpha=SPREAD)
            yield (values + 1 if len(shape) == 1 else values).to(torch.bfloat16)


def write_tokenizer(folder: Path) -> None:
    """One token per byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    assert len(alphabet) == BYTE_ALPHABET
    tokenizer = Tokenizer(models.BPE({byte: i for i, byte in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))


@contextmanager
def models_of(size: Size, count: int, work: Path, *, keep: bool) -> Iterator[list[Path]]:
    """Models in the page cache; those made here are removed afterwards unless kept."""
    folders = [work / f"llama-{size.count}" / f"m{i}" for i in range(count)]
    missing = {folder: seed for seed, folder in enumerate(folders) if not folder.exists()}
    began = time.perf_counter()
    try:
        if missing:
            in_child(make_models, missing, size)
        say(f"{size.count:,} parameters, {len(missing)} of {count} models made", began)
        for folder in folders:
            read(folder / "model.safetensors")
        yield folders
    finally:
        if not keep:
            for folder in missing:
                shutil.rmtree(folder, ignore_errors=True)


def read(path: Path) -> None:
    buffer = bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
