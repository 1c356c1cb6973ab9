"""What tokenizers make, on its way into a model."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Config
from mergekit_geo.data.rows import Rows
from mergekit_geo.tasks.causal_lm import pad
from mergekit_geo.tasks.task import Example

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def encode(
    tokenizer: PreTrainedTokenizerBase, rows: Rows, seq_len: int, *texts: Any, **options: Any
) -> BatchEncoding:
    """Token ids with special tokens; what is longer than `seq_len` is cut, and noted.

    Args:
        tokenizer: Of the model.
        rows: Where the texts are from; takes the note.
        seq_len: Most tokens of a text, special ones included.
        *texts: As the tokenizer takes them.
        **options: The same.
    """
    limits = {"truncation": True, "max_length": seq_len, "return_attention_mask": True}
    found: BatchEncoding = tokenizer(*texts, verbose=False, **limits, **options)
    cut = sum(bool(encoding.overflowing) for encoding in found.encodings or [])
    if cut:
        rows.notes.append(f"{cut} of {len(found['input_ids'])} texts are cut to {seq_len} tokens")
    return found


def inputs_of(encoded: BatchEncoding, row: int) -> dict[str, list[int]]:
    """A model's inputs of one text."""
    return {name: encoded[name][row] for name in INPUTS if name in encoded}


def pad_inputs(examples: Sequence[Example], padding: int) -> dict[str, Tensor]:
    """A model's inputs and, if there are such, labels of tokens: (b, length) each."""
    fillers = {"input_ids": padding, "attention_mask": 0, "token_type_ids": 0, "labels": -100}
    present = examples[0].fields
    return pad(
        [example.fields for example in examples],
        {name: filler for name, filler in fillers.items() if name in present},
    )


def accepted(model: Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep the inputs that the model takes: some tokenizers add token types that it does not."""
    known = inspect.signature(model.forward).parameters
    names = [name for name in INPUTS if name in known] or INPUTS  # a wrapper names none
    return {name: batch[name] for name in names if name in batch}


def padding_id(config: Config, tokenizer: PreTrainedTokenizerBase | None = None) -> int | None:
    """Padding token: the model's, else the tokenizer's, else None.

    Example:
        >>> padding_id({"pad_token_id": 3}), padding_id({"pad_token_id": -1})
        (3, None)
    """
    own = config.get("pad_token_id")
    if own is None:
        own = (config.get("text_config") or {}).get("pad_token_id")
    if own is None or own < 0:
        return None if tokenizer is None else tokenizer.pad_token_id
    return int(own)
