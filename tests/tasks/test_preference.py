"""Chosen and rejected answers against a loop over pairs, one answer at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import mergekit_geo as geo
from mergekit_geo.config.measures import Compute
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.evaluation.sample import Sample, prepare
from mergekit_geo.evaluation.statistics import mean_margin, mean_score, paired_score
from mergekit_geo.views.losses import model_table

SIZES = ((30, 20), (9, 40), (200, 10), (15, 300), (25, 25), (60, 5), (5, 80), (50, 50))
"""Characters of chosen and rejected answers; some need several windows."""


def pairs() -> list[dict[str, str]]:
    text = max((document.text for document in builtin_documents("held-out")), key=len)
    places = [60 * i for i in range(len(SIZES))]
    return [
        {"prompt": text[i : i + 30], "chosen": text[i + 30 :][:a], "rejected": text[i + 900 :][:b]}
        for i, (a, b) in zip(places, SIZES, strict=True)
    ]


def sample(folder: Path, path: Path, rows: list[dict[str, Any]], **data: Any) -> Sample:
    path.write_text("\n".join(map(json.dumps, rows)))
    config = json.loads((folder / "config.json").read_text())
    settings = geo.EvalData(str(path), **{"seq_len": 32, **data})
    return prepare(settings, folder, config, Compute())


def windows_of(ids: list[int], given: int) -> list[tuple[list[int], int]]:
    """Windows of 32 tokens that do not overlap, and how many of the first are given."""
    starts = range(0, len(ids), 32)
    found = [(ids[i : i + 32], max(1, given - i)) for i in starts]
    return [(window, known) for window, known in found if known < len(window)]


@torch.no_grad()
def naive(folder: Path, prompt: str, answer: str) -> tuple[float, int]:
    """Loss per token of an answer, and its tokens, window by window."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked, said = (tokenizer(text, add_special_tokens=False).input_ids for text in (prompt, answer))
    total, count = 0.0, 0
    for window, known in windows_of([*asked, *said], len(asked)):
        log = torch.log_softmax(model(torch.tensor([window])).logits[0, :-1].double(), -1)
        total -= sum(float(log[i - 1, window[i]]) for i in range(known, len(window)))
        count += len(window) - known
    return total / count, count


def measured(sample: Sample, folder: Path) -> geo.Losses:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    return sample.objective.measure(model)


def test_loss_and_score_are_those_of_each_pair_by_itself(family: Path, tmp_path: Path) -> None:
    folder = family / "a"
    found = sample(folder, tmp_path / "x.jsonl", pairs(), batch_size=3)
    losses = measured(found, folder)
    chosen = [naive(folder, row["prompt"], row["chosen"]) for row in pairs()]
    rejected = [naive(folder, row["prompt"], row["rejected"]) for row in pairs()]
    assert losses.loss == pytest.approx([loss for loss, _ in chosen], rel=1e-5)
    assert losses.weight.tolist() == [count for _, count in chosen]
    preferred = [a < b for (a, _), (b, _) in zip(chosen, rejected, strict=True)]
    assert losses.score is not None
    assert losses.score.tolist() == preferred
    assert 0 < np.mean(preferred) < 1, "the truth tells nothing"
    assert losses.accuracy == np.mean(preferred), "each pair counts once"
    margins = [b - a for (a, _), (b, _) in zip(chosen, rejected, strict=True)]
    assert losses.margin == pytest.approx(margins, rel=1e-4, abs=1e-5)
    margin = mean_margin(losses)
    assert margin is not None
    assert margin.value == pytest.approx(np.mean(margins), rel=1e-4)
    assert found.objective.task.metric == "preference accuracy"


def test_the_loss_is_that_of_the_chosen_answers_alone(family: Path, tmp_path: Path) -> None:
    folder = family / "a"
    both = sample(folder, tmp_path / "x.jsonl", pairs())
    rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in pairs()]
    alone = measured(sample(folder, tmp_path / "y.jsonl", rows), folder)
    assert measured(both, folder).mean == pytest.approx(alone.mean, rel=1e-6)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    parts = [batch(model) for batch in both.objective.batches()]  # as in training, with gradients
    total = sum(float(loss.detach() @ weight) for loss, weight in parts)
    assert total / sum(float(weight.sum()) for _, weight in parts) == pytest.approx(alone.mean)


def test_rows_without_a_rejected_answer_have_a_loss_and_no_score(
    family: Path, tmp_path: Path
) -> None:
    folder = family / "a"
    rows = [*pairs(), {"prompt": "two", "chosen": " and two", "rejected": None}]
    losses = measured(sample(folder, tmp_path / "x.jsonl", rows), folder)
    assert losses.score_weight is not None
    assert losses.score_weight.tolist() == [1.0] * len(SIZES) + [0.0]
    estimate = mean_score(losses)
    assert estimate is not None
    assert estimate.value == losses.accuracy == losses.take(np.arange(len(SIZES))).accuracy
    assert losses.by_document().accuracy == losses.accuracy
    assert mean_margin(losses.by_document()) == mean_margin(losses)
    nothing = losses.take(np.array([len(SIZES)]))
    assert nothing.accuracy is mean_score(nothing) is paired_score(nothing, nothing) is None
    rows = [{**row, "rejected": None} for row in pairs()]
    plain = sample(folder, tmp_path / "x.jsonl", rows).objective.task
    assert plain.metric == "next-token accuracy"


def test_every_token_counts_where_that_is_asked_for(family: Path, tmp_path: Path) -> None:
    found = sample(family / "a", tmp_path / "x.jsonl", pairs(), loss_on="all")
    assert found.objective.task.metric == "next-token accuracy"


def test_conversations_are_compared_by_their_last_turn(family: Path, tmp_path: Path) -> None:
    ask = {"role": "user", "content": "two and two"}
    answers = [{"role": "assistant", "content": said} for said in ("four", "five", "a lot")]
    rows = [{"chosen": [ask, answers[0]], "rejected": [ask, one]} for one in answers[1:]]
    rows.append({"chosen": [ask, answers[0]], "rejected": [ask]})
    folder = tmp_path / "chat"
    folder.mkdir()
    for file in (family / "a").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    asking = "{% if add_generation_prompt %}<assistant>{% endif %}"
    (folder / "chat_template.jinja").write_text(template + asking)
    losses = measured(sample(folder, tmp_path / "x.jsonl", rows), folder)
    assert losses.score_weight is not None
    assert losses.score_weight.tolist() == [1, 1, 0]
    assert np.ptp(losses.loss) == 0, "one answer to one question"


def test_digest_and_order_do_not_depend_on_the_batches(family: Path, tmp_path: Path) -> None:
    folder = family / "a"
    one = sample(folder, tmp_path / "x.jsonl", pairs()).objective
    assert one.digest == sample(folder, tmp_path / "x.jsonl", pairs()).objective.digest
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    parts: list[TaskObjective] = [replace(one, batch_size=size) for size in (1, 5)]
    first, second = (part.measure(model) for part in parts)
    assert first.loss == pytest.approx(second.loss, rel=1e-5)
    assert first.score is not None
    assert second.score is not None
    assert first.score.tolist() == second.score.tolist()


def test_the_report_names_the_score(family: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(map(json.dumps, pairs())))
    data = geo.EvalData(str(path), seq_len=32)
    found = geo.soup([family / "a", family / "b"], data=data, sharpness="off", out=None)
    assert found.report.data is not None
    assert found.report.data.metric == "preference accuracy"
    assert found.report.data.seq_len == 32, "that of a window, not of a pair"
    entries = found.report.result.losses
    assert all(entry.margin.low < entry.margin.value < entry.margin.high for entry in entries)
    assert model_table(entries, found.report.data).head[-1] == "margin ↑"
    plain = entries[0].model_copy(update={"margin": None})
    assert "margin" not in plain.model_dump()
    assert "margin ↑" not in model_table([plain], found.report.data).head
    assert all(entry.metric in [i / 8 for i in range(9)] for entry in found.report.result.losses)


def test_instructions_have_rejected_answers_too(family: Path, tmp_path: Path) -> None:
    rows = [{"instruction": "add", "input": "two", "chosen": " two", "rejected": " one"}] * 2
    found = sample(family / "a", tmp_path / "x.jsonl", rows, seq_len=64)
    asked = "### Instruction:\nadd\n\n### Input:\ntwo\n\n### Response:\n"
    told = found.objective.task.shown(found.objective.kept[0])  # type: ignore[attr-defined]
    assert told == f"chosen: {asked}⟦ two⟧\nrejected: {asked}⟦ one⟧"
