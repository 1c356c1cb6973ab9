"""Entropy of predicted classes, on rows whose labels are not looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    LlamaConfig,
    LlamaForCausalLM,
)

from mergekit_geo.config.data import EvalData
from mergekit_geo.data.rows import Rows
from mergekit_geo.errors import UnsupportedError
from mergekit_geo.evaluation.training_sample import input_key
from mergekit_geo.tasks.entropy import classifier, softmax_entropy
from mergekit_geo.tasks.image_classification import ImageClassification
from mergekit_geo.tasks.task import Task
from tests.tasks.tiny import TINY, Make, rows_of

TEXTS = ["A short text.", "And another one, somewhat longer than that.", "Third"]


def test_entropy_is_that_of_the_softmax() -> None:
    logits = torch.randn(7, 5) * 3
    expected = entropy(torch.softmax(logits.double(), dim=1).numpy(), axis=1)
    np.testing.assert_allclose(softmax_entropy(logits), expected, atol=1e-6)
    certain = torch.tensor([[1e4, 0.0]], requires_grad=True)
    softmax_entropy(certain).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(certain.grad, torch.zeros(1, 2))


def logits_of(task: Task, rows: Rows, model: torch.nn.Module) -> tuple[torch.Tensor, list[Any]]:
    """Logits of all rows without their labels, and the examples."""
    found = classifier(task)
    examples = task.examples(found.unlabelled(rows))
    with torch.no_grad():
        return found.logits(model, task.batch(examples)), examples


def test_texts_need_no_label(make: Make) -> None:
    model, task = make(BertForSequenceClassification, BertConfig(**TINY, num_labels=3))
    logits, examples = logits_of(task, rows_of(text=TEXTS), model)
    assert logits.shape == (3, 3)
    for row, example in zip(logits, examples, strict=True):
        ids = torch.tensor([example.fields["input_ids"]])
        with torch.no_grad():
            torch.testing.assert_close(row, model(ids).logits[0], atol=1e-5, rtol=0)
    odd, _ = logits_of(task, rows_of(text=TEXTS, label=["?", None, 99]), model)
    assert torch.equal(odd, logits)


def test_words_count_once_each_and_need_no_label(make: Make) -> None:
    model, task = make(BertForTokenClassification, BertConfig(**TINY, num_labels=3))
    words = [text.split() for text in TEXTS]
    logits, examples = logits_of(task, rows_of(tokens=words), model)
    assert len(logits) == sum(map(len, words))
    expected = []
    for example in examples:
        counted = torch.tensor(example.fields["labels"]) != -100
        with torch.no_grad():
            expected.append(model(torch.tensor([example.fields["input_ids"]])).logits[0][counted])
    torch.testing.assert_close(logits, torch.cat(expected), atol=1e-5, rtol=0)


def test_a_key_tells_inputs_and_not_labels(make: Make) -> None:
    _, task = make(BertForSequenceClassification, BertConfig(**TINY, num_labels=3))
    first = task.examples(rows_of(text=TEXTS, label=[0, 1, 2]))
    second = task.examples(rows_of(text=TEXTS[::-1], label=[1, 1, 1]))
    assert [input_key(one) for one in first] == [input_key(one) for one in second][::-1]
    assert len({input_key(one) for one in first}) == 3


@pytest.mark.parametrize(
    ("tweak", "match"),
    [
        ({"problem_type": "regression"}, "the model gives numbers, or any number of labels"),
        ({"problem_type": "multi_label_classification"}, "any number of labels"),
        ({"id2label": {"0": "only"}}, "numbers"),
    ],
)
def test_predictions_without_an_entropy(make: Make, tweak: dict[str, Any], match: str) -> None:
    config = BertConfig(**TINY, num_labels=2)
    _, task = make(BertForSequenceClassification, config, tweak=tweak)
    with pytest.raises(UnsupportedError, match=match):
        classifier(task, "x.jsonl")


def test_one_class_has_none() -> None:
    with pytest.raises(UnsupportedError, match="the model has one class"):
        classifier(ImageClassification({"id2label": {"0": "only"}}, EvalData()))


def test_language_models_have_none(make: Make) -> None:
    tiny = {name: value for name, value in TINY.items() if name != "attn_implementation"}
    _, task = make(LlamaForCausalLM, LlamaConfig(**tiny))
    with pytest.raises(UnsupportedError, match="predictions of causal-lm have no entropy"):
        classifier(task)
