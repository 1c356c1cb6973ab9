"""Loss per byte: sums of transformers' own losses over bytes counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from mergekit_geo.config.data import EvalData
from mergekit_geo.data.rows import Rows
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.tasks.causal_lm import IGNORED, CausalLM
from mergekit_geo.tasks.per_byte import PerByte
from mergekit_geo.tasks.seq2seq import Seq2SeqLM
from mergekit_geo.tasks.task import Example

CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "two and two"},
    {"role": "assistant", "content": "quatre, très bien"},
    {"role": "user", "content": "and one"},
    {"role": "assistant", "content": [{"type": "text", "text": "five"}]},
]


def rows_of(column: str, cells: Sequence[Any], **others: Sequence[Any]) -> Rows:
    columns = {column: cells, **others}
    found = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return Rows(found, [str(i) for i in range(len(cells))], "test")


@pytest.fixture(scope="module")
def pieces(family: Path) -> Any:
    """The family's tokenizer."""
    return AutoTokenizer.from_pretrained(family / "a")


@pytest.fixture(scope="module")
def characters() -> PreTrainedTokenizerFast:
    """One token a byte, and one that ends a text."""
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE({**vocabulary, "<end>": 256}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")


def task(tokenizer: Any, seq_len: int = 32, **data: Any) -> PerByte:
    return PerByte(CausalLM(tokenizer, seq_len, 1024, EvalData(**data), every_token=True))


def total_nats(model: Any, examples: Sequence[Example], document: int) -> float:
    """The sum of a document's losses, by transformers' own mean of each window alone."""
    total = 0.0
    for example in examples:
        if example.document == document:
            fields = {n: torch.tensor([example.fields[n]]) for n in ("input_ids", "labels")}
            counted = sum(label != IGNORED for label in example.fields["labels"][1:])
            total += float(model(**fields).loss) * counted
    return total


@torch.no_grad()
def test_a_document_s_loss_is_its_nats_over_its_bytes_by_any_tokenizer(
    family: Path, pieces: Any, characters: Any
) -> None:
    model = AutoModelForCausalLM.from_pretrained(family / "a").eval()
    texts = ["Ünïcödé, ça alors: 漢字", builtin_documents("held-out")[0].text[:300], "yes"]
    by_hand = [len(text.encode("utf-8")) for text in texts]
    assert by_hand[0] > len(texts[0])
    for tokenizer in (pieces, characters):
        own = task(tokenizer)
        examples = own.examples(rows_of("text", texts))
        assert len(examples) > len(texts), "no document has several windows"
        found = TaskObjective(own, examples, [], 4).measure(model)
        weights = np.bincount(found.document, found.weight)
        np.testing.assert_allclose(weights, by_hand)
        sums = np.bincount(found.document, found.weight * found.loss)
        expected = [total_nats(model, examples, i) for i in range(len(texts))]
        np.testing.assert_allclose(sums, expected, rtol=1e-5)
        assert found.mean == pytest.approx(sum(expected) / sum(by_hand), rel=1e-5)
        assert found.score is None


def test_windows_share_the_bytes_of_their_document_by_tokens(characters: Any) -> None:
    examples = task(characters, 11).examples(rows_of("text", ["é" * 12]))
    assert [example.weight for example in examples] == [10, 10, 4]
    ids = [token for example in examples for token in example.fields["input_ids"]]
    assert ids.count(256) == len(examples), "every token is predicted, the first one as well"


@pytest.mark.parametrize(
    ("loss_on", "counted"), [("assistant", "quatre, très bienfive"), ("all", None)]
)
def test_of_conversations_what_counted_messages_say(
    pieces: Any, loss_on: str, counted: str | None
) -> None:
    pieces.chat_template = CHAT
    said = "two and twoquatre, très bienand onefive" if counted is None else counted
    examples = task(pieces, 512, loss_on=loss_on).examples(rows_of("messages", [TALK]))
    assert sum(example.weight for example in examples) == pytest.approx(len(said.encode()))


def test_calls_of_tools_are_bytes_as_well(pieces: Any) -> None:
    pieces.chat_template = CHAT
    call = [{"type": "function", "function": {"name": "add", "arguments": {"x": "é"}}}]
    talk = [TALK[0], {"role": "assistant", "content": "", "tool_calls": call}]
    (example,) = task(pieces, 512).examples(rows_of("messages", [talk]))
    assert example.weight == pytest.approx(
        len('[{"type": "function", "function": {"name": "add", "arguments": {"x": "é"}}}]'.encode())
    )


@pytest.mark.parametrize(("loss_on", "expected"), [("assistant", 4), ("all", 15)])
def test_a_prompt_is_counted_where_it_counts(pieces: Any, loss_on: str, expected: int) -> None:
    rows = rows_of("prompt", ["two and two"], completion=["four"])
    own = task(pieces, loss_on=loss_on)
    examples = own.examples(rows)
    assert sum(example.weight for example in examples) == pytest.approx(expected)
    assert rows.notes == ["column 'completion' counts, given 'prompt'"]


@torch.no_grad()
def test_targets_of_sequence_to_sequence(characters: Any) -> None:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=257, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config).eval()
    own = PerByte(Seq2SeqLM(characters, 16, 257, EvalData()))
    targets = ["naïve", "a target that is longer than the model takes"]
    rows = rows_of("source", ["one", "two"], target=targets)
    examples = own.examples(rows)
    assert [example.weight for example in examples] == [6, 16]  # the second is cut
    found = TaskObjective(own, examples, [], 2).measure(model)
    for i, example in enumerate(examples):
        fields = {n: torch.tensor([example.fields[n]]) for n in ("input_ids", "labels")}
        total = float(model(**fields).loss) * len(example.fields["labels"])
        assert found.loss[i] == pytest.approx(total / example.weight, rel=1e-4)
