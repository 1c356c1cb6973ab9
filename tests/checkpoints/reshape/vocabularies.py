"""Small Llamas with tokenizers that differ in their added tokens, and merges of them by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TABLES = ("model.embed_tokens.weight", "lm_head.weight")
TEXT = "a green boat drifts past seven old harbours "
MARKS = ["<s>", "</s>"]


@cache
def _bpe(text: str, size: int) -> str:
    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    found.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=MARKS, initial_alphabet=alphabet, show_progress=False
    )
    found.train_from_iterator([text * 5], trainer)
    whole: str = found.to_str()
    return whole


def tokenizer(
    added: Sequence[str | AddedToken] = (), *, text: str = TEXT, size: int = 280, **given: Any
) -> PreTrainedTokenizerFast:
    """A byte-level BPE with further tokens."""
    found = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_bpe(text, size)),
        **{"bos_token": "<s>", "eos_token": "</s>", **given},
    )
    found.add_tokens(list(added))
    return found


def save(
    folder: Path,
    tokens: PreTrainedTokenizerFast | None = None,
    *,
    rows: int | None = None,
    seed: int = 0,
    **config: Any,
) -> Path:
    """A random Llama of so many rows, or of one a token, with its tokenizer beside it."""
    rows = len(tokens) if rows is None and tokens is not None else rows
    torch.manual_seed(seed)
    small = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "bos_token_id": 0}
    model = LlamaForCausalLM(
        LlamaConfig(**{**small, **heads, "vocab_size": rows, "eos_token_id": 1, **config})
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    model.to(config.get("dtype", torch.float32)).save_pretrained(folder)
    if tokens is not None:
        tokens.save_pretrained(folder)
    return folder


def weights(folder: Path) -> dict[str, Tensor]:
    """All tensors in float64."""
    return {n: t.double() for n, t in load_file(folder / "model.safetensors").items()}


Row = Callable[[str, dict[str, Tensor]], Tensor]


def by_hand(
    folders: Sequence[Path],
    vocabularies: Sequence[Mapping[str, int]],
    out: Mapping[str, int],
    shares: Sequence[float],
    *,
    based: bool = False,
) -> dict[str, Tensor]:
    """The weighted sum of models, each resized to the output's tokens, in float64.

    A token that a model lacks: the row of the base if there is one that has it, or else the mean of
    those that have it, which is that of the only one; zeros where nobody has it.
    """
    states = [weights(folder) for folder in folders]
    found = {
        name: sum(share * state[name] for share, state in zip(shares, states, strict=True))
        for name in states[0]
        if name not in TABLES
    }
    for name in TABLES:
        if name not in states[0]:
            continue
        table = torch.zeros(max(out.values()) + 1, states[0][name].shape[1], dtype=torch.float64)
        for token, row in out.items():
            own = [
                state[name][vocabulary[token]] if token in vocabulary else None
                for state, vocabulary in zip(states, vocabularies, strict=True)
            ]
            having = [one for one in own if one is not None]
            if based and own[0] is not None:
                having = [own[0]]
            lacked = torch.stack(having).mean(0) if having else torch.zeros(table.shape[1])
            rows = [lacked if one is None else one for one in own]
            table[row] = sum(share * one for share, one in zip(shares, rows, strict=True))
        found[name] = table
    return found
