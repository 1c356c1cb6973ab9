"""Train the demo: a small Llama on CPython's documentation, fine-tunes of it, one trained apart.

Three fine-tunes differ by their seed; two are specialists, of prose (the documentation again) and
of code (the standard library). Real text, real training, seeded. Held-out text is never seen; the
tokenizer is trained on the training topics as well. What is there already is kept.

Usage: python tests/demo/train.py DIR [NAME ...] [--quick]   # all by default; fine-tunes need base

Tests and benchmarks make smaller families by `make` with a `Plan` of their own.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from mergekit_geo.config.data import BUILTIN, PYTHON_SOURCE
from mergekit_geo.data.text import builtin_documents

VOCABULARY, CONTEXT = 1024, 64
BASE_RATE = 3e-3
FINE_TUNES = {"a": 1, "b": 2, "c": 3, "prose": 5, "code": 6}
"""Seeds."""

TEXTS = {"code": PYTHON_SOURCE}
"""What a model is trained on, where that is not the documentation."""

STRANGER, STRANGER_SEED = "independent", 11
"""Initialised and trained apart from the others, on the same text."""

FAMILY = ("base", "a", "b", "c", STRANGER)
NAMES = (*FAMILY, "prose", "code")
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Plan:
    """How large the models are, and how long they are trained.

    Attributes:
        base_steps: Of the base and of the model trained apart.
        tune_steps: Of each fine-tune.
        batch: Windows in a step.
        width: Of the hidden states.
        mlp: Width of the hidden layer of each MLP.
        layers: How many.
        tune_rate: Highest learning rate of the fine-tunes.
    """

    base_steps: int = 400
    tune_steps: int = 150
    batch: int = 32
    width: int = 128
    mlp: int = 304
    layers: int = 4
    tune_rate: float = 2e-3


DEMO = Plan()
QUICK = Plan(base_steps=300, tune_steps=80, batch=16, width=64, mlp=160, layers=2, tune_rate=4e-3)
"""Of the quickstart: the same story in a fifth of a minute of two cores."""

BRIEF = Plan(base_steps=60, tune_steps=12, batch=8)
"""Seconds of training: a family whose members differ, and have learned a little."""


def train_tokenizer(texts: list[str], vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """A byte-level BPE."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    )


def token_stream(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Tensor:
    """All training text as one row of ids."""
    ids = [tokenizer(text, verbose=False)["input_ids"] + [tokenizer.eos_token_id] for text in texts]
    return torch.tensor([token for row in ids for token in row])


def new_model(seed: int, plan: Plan = DEMO) -> LlamaForCausalLM:
    """A Llama; the demo's has 0.86 M parameters."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=plan.width,
        intermediate_size=plan.mlp,
        num_hidden_layers=plan.layers,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def train(
    model: LlamaForCausalLM, stream: Tensor, steps: int, batch: int, rate: float, seed: int
) -> LlamaForCausalLM:
    """AdamW on random windows, with a short warm-up and a cosine down to a tenth."""
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    model.train()
    for _ in range(steps):
        starts = torch.randint(len(stream) - CONTEXT, (batch,), generator=draw)
        ids = torch.stack([stream[start : start + CONTEXT] for start in starts])
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model.eval()


def _rate(step: int, steps: int) -> float:
    warm_up = min(1.0, (step + 1) / 20)
    return warm_up * (0.1 + 0.9 * (1 + math.cos(math.pi * step / steps)) / 2)


def make(folder: Path, names: Sequence[str] = FAMILY, plan: Plan = DEMO) -> None:
    """Train what is not there yet."""
    tokenizer = train_tokenizer(_texts(BUILTIN))
    streams: dict[str, Tensor] = {}
    for name in names:
        if not (folder / name).exists():
            text = TEXTS.get(name, BUILTIN)
            if text not in streams:
                streams[text] = token_stream(tokenizer, _texts(text))
            _save(_trained(name, plan, streams[text], folder / "base"), tokenizer, folder / name)


def _texts(source: str) -> list[str]:
    return [document.text for document in builtin_documents("train", source)]


def _trained(name: str, plan: Plan, stream: Tensor, base: Path) -> LlamaForCausalLM:
    if name in FINE_TUNES:
        model, steps = LlamaForCausalLM.from_pretrained(base), plan.tune_steps
        return train(model, stream, steps, plan.batch, plan.tune_rate, FINE_TUNES[name])
    seed = STRANGER_SEED if name == STRANGER else 0
    return train(new_model(seed, plan), stream, plan.base_steps, plan.batch, BASE_RATE, seed)


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save whole or not at all."""
    partial = folder.with_name(folder.name + ".partial")
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(folder)
    print(f"trained {folder}", flush=True)


def main() -> None:
    """Train what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--quick", action="store_true", help="the small family of the quickstart")
    asked = parser.parse_args()
    disable_progress_bar()
    began = time.perf_counter()
    make(asked.folder, asked.names, QUICK if asked.quick else DEMO)
    print(f"{asked.folder}: ready in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
