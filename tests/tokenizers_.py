"""Tokenizers made on the spot: bytes alone, so that any text can be read."""

from __future__ import annotations

from typing import Any

SPECIAL = ["<s>", "</s>", "<pad>", "<unk>", "<mask>"]


def byte_tokenizer(size: int) -> Any:
    """A byte-level BPE of at most so many tokens, with the usual special ones first.

    Args:
        size: At least 261: bytes and special tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    bpe.train_from_iterator(["a green boat drifts past seven old harbours " * 5], trainer)
    names = ("bos_token", "eos_token", "pad_token", "unk_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, **dict(zip(names, SPECIAL, strict=True)), model_max_length=64
    )
