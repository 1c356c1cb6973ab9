"""Benchmarks in commands: sets by task, paired differences, the card, kept numbers, gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mergekit_geo as geo
from mergekit_geo.config.data import sets_of
from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.modules.load import load_model
from mergekit_geo.specs.measures import EvalSpec
from mergekit_geo.tasks.texts import ExampleTexts
from tests.tasks.harness.conftest import CPU, Prepared
from tests.tasks.harness.test_agreement import evaluated


def data(topics: Path, tasks: str, **settings: Any) -> geo.EvalData:
    return geo.EvalData(f"lm-eval:{tasks}", include_path=str(topics), **settings)


@pytest.fixture(scope="module")
def souped(small: Path, topics: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A soup that is measured on a task."""
    return geo.soup(
        [small / "a", small / "b"], tmp_path_factory.mktemp("souped") / "out", compute=CPU,
        data=data(topics, "letters", limit=16), sharpness="off",
    )  # fmt: skip


@pytest.mark.slow
def test_scores_and_paired_differences_are_of_the_task(
    souped: Any, small: Path, topics: Path
) -> None:
    found = souped.report.result
    assert souped.report.data.metric == "acc"
    folders = {"parent": small / "a", "output": Path(souped.report.output)}
    scores = {}
    for role, folder in folders.items():
        model = load_model(folder, CPU)
        results, _ = evaluated(model, folder, topics, "letters", limit=16)
        scores[role] = results["acc,none"]
        told = next(one for one in found.losses if one.role == role)
        assert told.metric == pytest.approx(scores[role])
    difference = found.differences[0]
    assert difference.metric is not None
    assert difference.metric.value == pytest.approx(scores["output"] - scores["parent"])
    assert difference.metric.low is not None  # it has an interval: the questions are the same


def test_the_card_names_the_task(souped: Any) -> None:
    card = (Path(souped.report.output) / "README.md").read_text()
    assert "name: lm-eval:letters (16 documents)" in card
    assert "type: acc" in card
    assert "type: text-generation" in card


def test_tasks_are_sets_by_name_and_a_name_makes_one_set(topics: Path) -> None:
    assert [one.name for one in sets_of("lm-eval:piqa,arc_easy")] == ["piqa", "arc_easy"]
    alone = sets_of({"quiz": "lm-eval:piqa,arc_easy", "text": "a.jsonl"})
    assert [one.name for one in alone] == ["quiz", "text"]
    named = sets_of(geo.EvalData(["quiz=lm-eval:piqa,arc_easy", "a.jsonl"], limit=5))
    assert [one.name for one in named] == ["quiz", "a"]
    limits = [settings.limit for one in named if (settings := one.data.as_settings)]
    assert limits == [5, None]  # the file has no such setting


def test_a_file_lists_benchmarks_among_other_sets(tmp_path: Path, topics: Path) -> None:
    (tmp_path / "sets.yml").write_text("- lm-eval:letters\n- {source: a.jsonl, max_examples: 7}\n")
    data = geo.EvalData(str(tmp_path / "sets.yml"), include_path=str(topics), limit=3)
    found = [one.data.as_settings for one in sets_of(EvalSpec(models=["a"], data=data).data)]
    assert [(one.origin, one.limit, one.max_examples) for one in found if one] == [
        ("lm-eval:letters", 3, None), ("a.jsonl", None, 7),
    ]  # fmt: skip
    one = f"lm-eval:{topics / 'letters.yaml'}"
    assert [one.name for one in sets_of(EvalSpec(models=["a"], data=one).data)] == ["letters"]


def test_what_the_numbers_depend_on_is_in_the_digest(
    small: Path, topics: Path, tmp_path: Path, prepared: Prepared
) -> None:
    def digest(**settings: Any) -> str:
        objective = prepared(small / "a", "letters", **settings).objective
        assert isinstance(objective, TaskObjective)
        return objective.digest

    again = {digest(limit=9) for _ in range(2)}
    assert len(again) == 1
    for file in topics.iterdir():
        text = file.read_text().replace("task: letters\n", "task: letters\ntask_alias: other\n")
        (tmp_path / file.name).write_text(text)
    others = {
        digest(limit=9, num_fewshot=1), digest(limit=8), digest(limit=9, seq_len=48),
        digest(limit=9, include_path=str(tmp_path)),
    }  # fmt: skip
    assert not again & others


def test_examples_are_told_with_their_right_answer(small: Path, prepared: Prepared) -> None:
    for task, answers in {"letters": set("ABCD"), "next_word": {"the", "[invalid]"}}.items():
        sample = prepared(small / "a", task, limit=9)
        texts = ExampleTexts(sample.objective.task, sample.rows)
        assert {texts.label_of(example) for example in sample.objective.kept} <= answers
        assert texts.of(sample.objective.kept[0])


def test_halves_go_by_the_documents_content(small: Path, prepared: Prepared) -> None:
    one = prepared(small / "a", "letters", limit=9).objective.documents
    other = prepared(small / "a", "topics", limit=6).objective.documents
    assert list(one)[:6] == list(other)
    assert len(set(one)) == 9


@pytest.mark.slow
def test_a_soup_is_learned_and_sharpness_is_measured_on_a_benchmark(
    small: Path, topics: Path, tmp_path: Path
) -> None:
    asked = data(topics, "letters", limit=30)
    learned = geo.soup(
        [small / "a", small / "b"], tmp_path / "out", data=asked, compute=CPU, sharpness="off",
        choosing=geo.SelectionConfig(method="learned", steps=4),
    )  # fmt: skip
    assert learned.report.data is not None
    assert learned.report.data.half == "report"
    found = geo.sharpness(small / "a", data=asked, compute=CPU)
    assert found.report.data is not None
    assert found.report.data.unit == "example"
