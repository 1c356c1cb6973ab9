"""Scores and log-likelihoods are those of `lm_eval.simple_evaluate`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

from mergekit_geo.tasks.harness.quiet import quiet
from tests.tasks.harness.conftest import Prepared


def evaluated(model: Any, folder: Path, topics: Path, task: str, **options: Any) -> Any:
    """What lm-eval itself says: results and samples of a task."""
    with quiet():
        wrapped = HFLM(model, tokenizer=AutoTokenizer.from_pretrained(folder), batch_size=4)
        manager = TaskManager(include_path=str(topics), include_defaults=False)
        found = lm_eval.simple_evaluate(
            wrapped, tasks=[task], task_manager=manager, bootstrap_iters=0, **options
        )
    return found["results"][task], sorted(found["samples"][task], key=lambda one: one["doc_id"])


@pytest.mark.parametrize(
    ("task", "metric", "shots"),
    [("topics", "acc_norm", 2), ("topics@acc", "acc", None), ("letters", "acc", 1),
     ("last_word", "acc", None)],
)  # fmt: skip
def test_likelihoods_and_scores_are_lm_evals(
    family: Path, topics: Path, prepared: Prepared, trained: Any, task: str, metric: str,
    shots: int | None,
) -> None:  # fmt: skip
    sample = prepared(family / "a", task, num_fewshot=shots, limit=12)
    found = sample.objective.measure(trained)
    name = task.partition("@")[0]
    results, samples = evaluated(trained, family / "a", topics, name, num_fewshot=shots, limit=12)
    assert sample.objective.task.metric == metric
    assert found.accuracy == results[f"{metric},none"]
    assert found.score is not None
    assert found.score.tolist() == [one[metric] for one in samples]
    right = [one["resps"][one["target"] if task != "last_word" else 0][0][0] for one in samples]
    assert np.allclose(found.loss, -np.array(right, float), atol=1e-5)
    if task == "last_word":
        assert math.isclose(math.exp(found.mean), results["perplexity,none"], rel_tol=1e-6)


def test_texts_have_lm_evals_bits_per_byte(
    family: Path, topics: Path, prepared: Prepared, trained: Any
) -> None:
    sample = prepared(family / "a", "pages")
    found = sample.objective.measure(trained)
    results, _ = evaluated(trained, family / "a", topics, "pages")
    assert len(found.loss) > sample.available / 2  # several windows a text
    assert sample.objective.task.unit == "byte"
    assert found.score is None
    assert math.isclose(found.mean / math.log(2), results["bits_per_byte,none"], rel_tol=1e-6)


def test_generated_answers_have_lm_evals_score(
    family: Path, topics: Path, prepared: Prepared, trained: Any
) -> None:
    sample = prepared(family / "a", "next_word", limit=20)
    found = sample.objective.measure(trained)
    results, samples = evaluated(trained, family / "a", topics, "next_word", limit=20)
    assert sample.objective.task.metric == "word exact_match"
    assert found.score is not None
    assert found.score.tolist() == [one["exact_match"] for one in samples]
    assert found.accuracy == results["exact_match,word"] > 0


def test_models_with_an_encoder_agree_too(
    family: Path, topics: Path, prepared: Prepared, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=1024, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
        decoder_start_token_id=0, n_positions=128,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config).eval()
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(family / "a").save_pretrained(tmp_path)
    found = prepared(tmp_path, "topics", limit=5).objective.measure(model)
    results, samples = evaluated(model, tmp_path, topics, "topics", limit=5)
    assert found.accuracy == results["acc_norm,none"]
    right = [one["resps"][one["target"]][0][0] for one in samples]
    assert np.allclose(found.loss, -np.array(right, float), atol=1e-5)


def test_a_group_has_the_mean_over_all_documents(
    family: Path, topics: Path, prepared: Prepared, trained: Any
) -> None:
    whole = prepared(family / "a", "letters,word_letters", limit=6).objective.measure(trained)
    alone = [
        prepared(family / "a", name, limit=6).objective.measure(trained)
        for name in ("letters", "word_letters")
    ]
    assert whole.loss.tolist() == pytest.approx(np.concatenate([one.loss for one in alone]))
    grouped = prepared(family / "a", "quiz", limit=6).objective.measure(trained)
    assert grouped.loss.tolist() == whole.loss.tolist()
    tagged = prepared(family / "a", "lettered", limit=6).objective.measure(trained)
    assert tagged.loss.tolist() == whole.loss.tolist()


@pytest.mark.parametrize("task", ["topics", "letters", "pages", "next_word"])
def test_gradients_are_of_the_loss_that_is_measured(
    family: Path, prepared: Prepared, trained: Any, task: str
) -> None:
    objective = prepared(family / "a", task, limit=4).objective
    measured, weight = objective.measure(trained), 0.0
    total = torch.tensor(0.0)
    for batch in objective.batches():
        loss, weights = batch(trained)
        total, weight = total + loss @ weights, weight + float(weights.sum())
    assert total.requires_grad
    assert float(total.detach() / weight) == pytest.approx(measured.mean, rel=1e-5)
