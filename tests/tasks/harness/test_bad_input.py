"""What cannot be measured is refused with its reason and what to do."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

import mergekit_geo as geo
from mergekit_geo.config.measures import Compute
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.evaluation.evaluator import Evaluator
from mergekit_geo.modules.load import load_model
from mergekit_geo.progress import Silent
from tests.tasks.harness.conftest import CPU, Prepared
from tests.tasks.harness.topics import CHOICE, WORDS


def changed(topics: Path, folder: Path, task: dict[str, Any], **changes: Any) -> Path:
    """A folder with a task that differs from one of the topics'."""
    data = {"data_files": str(topics / "paragraphs.jsonl")}
    made = {"dataset_path": "json", "dataset_kwargs": data, **task, "task": "own", **changes}
    (folder / "own.yaml").write_text(yaml.safe_dump(made))
    return folder


def test_without_the_library_a_merge_is_refused_before_it_begins(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    told = r"lm-eval:piqa: .* needs lm_eval, which is not installed .*'mergekit_geo\[lm-eval\]'"
    with pytest.raises(DataError, match=told):
        geo.soup([small / "a", small / "b"], tmp_path / "out", data="lm-eval:piqa")
    assert not any(tmp_path.iterdir())


def test_an_unknown_task_is_told_with_the_nearest(
    small: Path, topics: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.tasks import TaskManager

    from mergekit_geo.tasks.harness import loading

    own = TaskManager(include_path=str(topics), include_defaults=False)
    monkeypatch.setattr(loading, "TaskManager", lambda **options: own)  # lm-eval's takes seconds
    with pytest.raises(ArgumentError, match=r"no task 'letter' \(did you mean letters\? "):
        prepared(small / "a", "letter")


def test_lm_evals_own_tasks_are_known(small: Path, prepared: Prepared) -> None:
    with pytest.raises(ArgumentError, match=r"lm-eval:humaneval: .*--trust-remote-code"):
        prepared(small / "a", "humaneval", include_path=None)


def test_a_folder_of_tasks_has_to_be_there(small: Path, prepared: Prepared) -> None:
    with pytest.raises(ArgumentError, match=r"nowhere: no such folder \(--include-path"):
        prepared(small / "a", "topics", include_path="nowhere")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"dataset_kwargs": {"data_files": "gone.jsonl"}}, "the data .* cannot be had: File.*gone"),
        ({"dataset_path": "org/nothing", "dataset_kwargs": {}}, "the data .* cannot be had"),
        ({"doc_to_text": "{{text.nothing.of_it}}"}, "the task cannot be made: UndefinedError"),
        ({"test_split": "test"}, "the task cannot be made: KeyError"),
        ({"output_type": "guess"}, "the task cannot be made: ValueError.*guess"),
    ],
)
def test_tasks_whose_file_or_data_is_unsound(
    small: Path, topics: Path, tmp_path: Path, prepared: Prepared,
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], told: str,
) -> None:  # fmt: skip
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = changed(topics, tmp_path, CHOICE, **changes)
    with pytest.raises(DataError, match=f"lm-eval:own: {told}"):
        prepared(small / "a", "own", include_path=str(folder))


def test_a_metric_that_the_task_has_not(small: Path, prepared: Prepared) -> None:
    told = r"lm-eval:topics: .*no metric and no filter 'acc_nrm'; it has acc, acc_norm .did you"
    with pytest.raises(ArgumentError, match=told):
        prepared(small / "a", "topics@acc_nrm")
    both = prepared(small / "a", "next_word@exact_match@word", limit=2)
    assert both.objective.task.metric == "word exact_match"


@pytest.mark.parametrize(
    ("function", "told"),
    [("right", ""), ("wrong", "own:0: no sure of the answers: KeyError: 'gone'")],
)
def test_functions_of_a_task_file_are_run_and_their_errors_told(
    small: Path, topics: Path, tmp_path: Path, prepared: Prepared, function: str, told: str
) -> None:
    metric = {"metric": "sure", "aggregation": "mean", "higher_is_better": True}
    changed(topics, tmp_path, CHOICE, metric_list=[metric])
    with (tmp_path / "own.yaml").open("a") as file:
        file.write(f"process_results: !function own.{function}\n")
    (tmp_path / "own.py").write_text(
        "def right(doc, results):\n    print('said by a task')\n    return {'sure@1': 0.25}\n"
        "def wrong(doc, results):\n    return {'sure@1': doc['gone']}\n"
    )
    sample = prepared(small / "a", "own", include_path=str(tmp_path), limit=1)
    with pytest.raises(DataError, match=told) if told else nullcontext():
        assert sample.objective.measure(load_model(small / "a", CPU)).accuracy == 0.25


def test_tasks_that_run_code_need_trust(
    small: Path, topics: Path, tmp_path: Path, prepared: Prepared
) -> None:
    unsafe = changed(topics, tmp_path, WORDS, unsafe_code=True)
    with pytest.raises(ArgumentError, match=r"lm-eval:own: .*runs code.*--trust-remote-code"):
        prepared(small / "a", "own", include_path=str(unsafe))
    trusted = Compute(device="cpu", trust_remote_code=True)
    assert prepared(small / "a", "own", trusted, include_path=str(unsafe), limit=2).available == 2
    foreign = changed(topics, tmp_path, WORDS, metric_list=[{"metric": "someone/metric"[:7]}])
    with pytest.raises(ArgumentError, match="runs code"):
        prepared(small / "a", "own", include_path=str(foreign))


def test_tasks_that_are_measured_in_several_ways_are_several_sets(
    small: Path, prepared: Prepared
) -> None:
    told = r"topics by acc_norm, letters by acc .*--data lm-eval:topics,letters"
    with pytest.raises(ArgumentError, match=told):
        prepared(small / "a", "topics,letters", limit=2)


def test_questions_without_a_right_answer_are_left_out_and_counted(
    small: Path, topics: Path, tmp_path: Path, prepared: Prepared
) -> None:
    hidden = changed(topics, tmp_path, CHOICE, doc_to_target="{{label if label else -1}}")
    sample = prepared(small / "a", "own", include_path=str(hidden))
    rows = [json.loads(line) for line in (topics / "paragraphs.jsonl").open()]
    assert sample.available == sum(row["label"] > 0 for row in rows) < len(rows)
    assert any("left out" in note for note in sample.notes)
    none = changed(topics, tmp_path, CHOICE, doc_to_target="{{'another'}}")
    with pytest.raises(DataError, match="no question has a right answer"):
        prepared(small / "a", "own", include_path=str(none))


def test_answers_have_to_fit_and_to_be_there(
    small: Path, topics: Path, tmp_path: Path, prepared: Prepared
) -> None:
    choices = "{{topics[:3] + ['' if label == 3 else 'none']}}"
    empty = changed(topics, tmp_path, CHOICE, doc_to_choice=choices, target_delimiter="")
    with pytest.raises(DataError, match=r"own:\d+: an answer has 0 tokens"):
        prepared(small / "a", "own", include_path=str(empty))
    long = changed(topics, tmp_path, WORDS, generation_kwargs={"max_gen_toks": 64})
    with pytest.raises(DataError, match=r"own:0: answers have up to 64 tokens, .* read 32"):
        prepared(small / "a", "own", include_path=str(long), seq_len=32)


def test_settings_of_benchmarks_are_for_benchmarks(small: Path) -> None:
    with pytest.raises(ArgumentError, match=r"--limit is for data of lm-eval.*--max-examples"):
        geo.soup([small / "a", small / "b"], None, data=geo.EvalData(limit=3))


def test_nothing_is_trained_on_a_benchmark(small: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lm-eval:piqa: .*nothing is trained on them"):
        geo.finetune(small / "a", tmp_path / "out", train_data="lm-eval:piqa", data=None)


def test_what_generation_costs_is_told_before_it_is_spent(
    family: Path, prepared: Prepared, trained: Any
) -> None:
    said: list[str] = []

    class Told(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    objective = prepared(family / "a", "next_word", limit=3).objective
    Evaluator(objective, CPU, evaluations=2, progress=Told()).measure("a", trained)
    assert "generates answers to 3 documents, of 4 tokens at most (12 in all)" in said[0]
    assert said[1].startswith("2 measurements on 3 examples")
