"""Tiny models' sizes, a tokenizer and rows, for tests of tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mergekit_geo.data.rows import Row, Rows
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.tasks.losses import Losses
from mergekit_geo.tasks.task import Example, Task

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = 320
TINY: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 128,
    "attn_implementation": "eager",
}

Reference = Callable[[Example], torch.Tensor]
Make = Callable[..., tuple[PreTrainedModel, Task]]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE with BERT's special tokens, trained on the built-in text."""
    made = Tokenizer(models.BPE(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([d.text for d in builtin_documents("train")[:5]], trainer)
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    roles = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **dict(zip(roles, SPECIAL, strict=True)),
    )


def rows_of(**columns: Sequence[Any]) -> Rows:
    names = [f"x.jsonl:{i}" for i in range(1, len(next(iter(columns.values()))) + 1)]
    cells = [
        Row(dict(zip(columns, row, strict=True)), name, "x.jsonl")
        for name, row in zip(names, zip(*columns.values(), strict=True), strict=True)
    ]
    return Rows(cells, names, "x.jsonl")


def measured(task: Task, examples: Sequence[Example], model: PreTrainedModel, size: int) -> Losses:
    return TaskObjective(task, examples, [], size).measure(model)


def check(
    task: Task, examples: Sequence[Example], model: PreTrainedModel, alone: Reference
) -> Losses:
    """Losses are the reference's in batches of any size; the smallest are returned."""
    with torch.no_grad():
        expected = np.array([float(alone(example)) for example in examples])
    found = [measured(task, examples, model, size) for size in (1, 2, len(examples))]
    for losses in found:
        np.testing.assert_allclose(losses.loss, expected, atol=1e-5, rtol=0)
    assert task.batch_size(examples) >= 1
    return found[0]


def ids(values: Sequence[int]) -> torch.Tensor:
    return torch.tensor([list(values)])
