"""Trainings of a tiny Llama, and what they went through."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import mergekit_geo as geo
from mergekit_geo.data.text import builtin_documents
from tests.demo.train import token_stream, train_tokenizer

HELD_OUT = geo.EvalData("builtin:python-docs", max_examples=60, seq_len=16)
FAST = geo.OutputConfig(fsync=False)
OFF: dict[str, Any] = {"output": FAST, "data": None, "sharpness": "off"}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Of 300 tokens, from a little text."""
    texts = [document.text for document in builtin_documents("train")[:20]]
    return train_tokenizer(texts, vocabulary=300)


def tiny(seed: int = 0) -> LlamaForCausalLM:
    """The same each time; tied weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=32,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def rows(count: int, seed: int) -> list[dict[str, Tensor]]:
    """Examples of anything."""
    draw = torch.Generator().manual_seed(seed)
    found = [torch.randint(300, (8,), generator=draw) for _ in range(count)]
    return [{"input_ids": row, "labels": row} for row in found]


class Seen(TrainerCallback):
    """The weights after every step, and whatever else is to happen then."""

    def __init__(self, at: int = 0, then: Any = None) -> None:
        self.at, self.then = at, then
        self.weights: dict[int, dict[str, Tensor]] = {}

    def on_step_end(
        self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
    ) -> None:
        self.weights[state.global_step] = {n: t.clone() for n, t in model.state_dict().items()}
        if state.global_step == self.at:
            self.then()


def trainer(
    folder: Path,
    *callbacks: TrainerCallback,
    model: nn.Module | None = None,
    given: Mapping[str, Any] = {},
    **settings: Any,
) -> Trainer:
    """Ten steps at a high rate, nothing saved or evaluated unless it is said."""
    arguments: dict[str, Any] = {
        "max_steps": 10, "per_device_train_batch_size": 2, "learning_rate": 0.02,
        "save_strategy": "no", "logging_strategy": "no", "report_to": [], "disable_tqdm": True,
        "use_cpu": True, **settings,
    }  # fmt: skip
    found = Trainer(
        model=tiny() if model is None else model,
        args=TrainingArguments(str(folder), **arguments),
        callbacks=list(callbacks),
        **{"train_dataset": rows(32, seed=1), "eval_dataset": rows(4, seed=2), **given},
    )
    found.remove_callback(PrinterCallback)
    return found


def make_run(folder: Path) -> None:
    """A training on real text by transformers' Trainer: `start`, and run/checkpoint-4 to 20."""
    tokenizer, model = tiny_tokenizer(), tiny()
    stream = token_stream(tokenizer, [d.text for d in builtin_documents("train")[:20]])
    windows = [{"input_ids": row, "labels": row} for row in stream[: 320 * 16].view(-1, 16)]
    model.save_pretrained(folder / "start")
    tokenizer.save_pretrained(folder / "start")
    trainer(
        folder / "run", model=model, max_steps=20, per_device_train_batch_size=16,
        save_strategy="steps", save_steps=4, lr_scheduler_type="constant",
        given={"processing_class": tokenizer, "train_dataset": windows},
    ).train()  # fmt: skip


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def mean(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The naive soup."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).float()
        for name in states[0]
    }
