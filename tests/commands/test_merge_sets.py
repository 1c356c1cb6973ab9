"""An output and its parents on several evaluation sets: the evidence of each, and of all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForSequenceClassification

import mergekit_geo as geo
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.modules.blend import Live
from mergekit_geo.records.report import NotMeasured, Report
from mergekit_geo.records.standing import standings
from mergekit_geo.specs.merges import SoupSpec

HOW = {"sharpness": "off", "compute": geo.Compute(device="cpu", budget=0)}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two files of other documents, a set each."""
    folder = tmp_path_factory.mktemp("texts")
    words = [" ".join(document.text.split()) for document in builtin_documents("train")]
    found = {}
    for name, parts in {
        "code": [text[:200] for text in words[:40]],
        "chat": [text[200:400] for text in words[10:]],
    }.items():
        (folder / f"{name}.txt").write_text("\n\n".join(parts))
        found[name] = str(folder / f"{name}.txt")
    return found


def soup(small: Path, data: Any, **more: Any) -> Report:
    return geo.soup([small / "a", small / "b"], data=data, **{**HOW, **more}).report


def test_each_set_has_the_evidence_that_it_has_alone(small: Path, texts: dict[str, str]) -> None:
    both = soup(small, texts).result
    assert list(both.sets) == ["code", "chat"]
    for name, source in texts.items():
        alone, found = soup(small, source), both.sets[name]
        assert found.data == alone.data
        assert found.losses == alone.result.losses
        assert found.differences == alone.result.differences
        assert found.barriers == alone.result.barriers
        assert alone.result.sets == {}
    first = both.sets["code"]
    assert (both.losses, both.differences, both.barriers) == (
        first.losses, first.differences, first.barriers
    )  # fmt: skip


def test_with_one_set_nothing_tells_of_sets(small: Path, texts: dict[str, str]) -> None:
    found = json.loads(soup(small, geo.EvalData(texts["code"])).to_json())
    assert {"sets", "across"} & set(found["result"]) == set()
    assert {"sets", "on", "score"} & set(found["verdict"]) == set()


def test_the_aggregate_is_the_mean_of_differences_to_the_best_parents(
    small: Path, texts: dict[str, str]
) -> None:
    found = soup(small, texts).result
    differences = {}
    for name, one in found.sets.items():
        best = min(one.losses[:2], key=lambda entry: entry.loss).model
        differences[name] = next(d.value for d in one.differences if d.model == best)
    assert found.across.mean.value == pytest.approx(sum(differences.values()) / 2)
    assert found.across.mean.low < found.across.mean.value < found.across.mean.high
    assert found.across.worst_set == max(differences, key=lambda name: differences[name])
    assert found.across.worst.value == max(differences.values())
    assert not found.across.relative


def test_the_module_moves_once_to_each_point_and_the_output_is_loaded_once(
    small: Path, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moves: list[int] = []
    put = Live.put
    monkeypatch.setattr(Live, "put", lambda self, blend: (moves.append(1), put(self, blend))[1])
    soup(small, texts["code"])
    alone = len(moves)
    moves.clear()
    soup(small, {**texts, "own": geo.EvalData(texts["chat"], max_examples=20)})
    assert len(moves) == alone


def test_a_set_that_fails_leaves_the_evidence_of_the_others(
    small: Path, texts: dict[str, str]
) -> None:
    def fails(module: nn.Module, batch: Any) -> torch.Tensor:
        raise RuntimeError("no loss today")

    data = {"own": geo.FunctionObjective(fails, [{}] * 8), "chat": texts["chat"]}
    result = geo.soup([small / "a", small / "b"], data=data, **HOW)
    found, alone = result.report.result, soup(small, texts["chat"]).result
    assert found.sets["chat"].losses == alone.losses
    assert found.sets["own"].reason == "RuntimeError: no loss today"
    assert (found.losses, found.across) == ([], None)
    assert NotMeasured(
        what="losses on own", why="RuntimeError: no loss today", command="", failed=True
    ) in result.report.not_measured  # fmt: skip
    assert not result.is_not_worse
    assert "own" in str(result)


def test_sets_report_on_their_own_halves_where_loss_has_chosen(
    small: Path, texts: dict[str, str]
) -> None:
    found = soup(small, texts, choosing=geo.SelectionConfig(method="greedy")).result
    assert [one.data.half for one in found.sets.values()] == ["report", "report"]
    for one in found.sets.values():
        assert [entry.role for entry in one.losses] == ["parent", "parent", "reference", "output"]
        assert one.data.documents < 40


def test_a_set_too_small_for_a_barrier_is_named(
    small: Path, texts: dict[str, str], tmp_path: Path
) -> None:
    few = tmp_path / "few.txt"
    few.write_text("\n\n".join(Path(texts["code"]).read_text().split("\n\n")[:6]))
    report = soup(small, {"chat": texts["chat"], "few": str(few)})
    assert [bool(one.barriers) for one in report.result.sets.values()] == [True, False]
    assert [one.what for one in report.not_measured if "barriers" in one.what] == [
        "barriers on few"
    ]
    assert any(text.startswith("few: no barrier between the models") for text in report.warnings)


def test_a_gate_on_some_of_the_sets(small: Path, texts: dict[str, str]) -> None:
    """No score is below 2 points of 100 in models that know nothing; losses are told apart."""
    pair = [small / "base", small / "c"]
    data = {"code": texts["code"], "chat": texts["chat"]}
    output = geo.OutputConfig(require="not-worse:chat@score")
    result = geo.soup(pair, data=data, output=output, **HOW)
    standing = standings(result.report)
    for name, one in standing.items():
        assert one is not None
        assert one.score is not None
        assert result.holds(f"not-worse:{name}") is (one.word in {"better", "no-difference"})
        assert result.holds(f"not-worse:{name}@score") is (
            one.score.word in {"better", "no-difference"}
        )
    assert result.holds("not-worse") is result.is_not_worse
    words = {name: one.word for name, one in standing.items() if one}
    bad = {name: word for name, word in words.items() if word in {"worse", "cannot-tell"}}
    assert result.lost("not-worse") == bad
    asked = SoupSpec(pair, data=data, output=geo.OutputConfig(require="not-worse"))
    told = ", ".join(f"{name}: {word}" for name, word in bad.items())
    assert asked.unmet(result) == (f"--require not-worse ({told})" if bad else "")


@pytest.fixture(scope="module")
def raters(small: Path, texts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models that rate texts by a number, and ratings."""
    folder = tmp_path_factory.mktemp("raters")
    config = LlamaConfig.from_pretrained(
        small / "base", num_labels=1, problem_type="regression", pad_token_id=0
    )
    for name in "ab":
        LlamaForSequenceClassification(config).save_pretrained(folder / name)
        for file in (small / "base").glob("token*"):
            shutil.copy(file, folder / name)
    rows = Path(texts["chat"]).read_text().split("\n\n")
    lines = (json.dumps({"text": text, "score": len(text) / 9}) for text in rows)
    (folder / "ratings.jsonl").write_text("\n".join(lines))
    return folder


def test_a_score_that_there_is_not_is_refused_before_any_work(raters: Path, tmp_path: Path) -> None:
    data = {"first": str(raters / "ratings.jsonl"), "more": str(raters / "ratings.jsonl")}
    output = geo.OutputConfig(require="not-worse:more@score")
    match = "more: require 'not-worse:more@score': sequence-classification has no score"
    with pytest.raises(ArgumentError, match=match):
        geo.soup([raters / "a", raters / "b"], tmp_path / "out", data=data, output=output)
    assert not list(tmp_path.glob("out*"))


def test_sets_of_tasks_that_a_model_cannot_do_are_named(
    raters: Path, texts: dict[str, str], tmp_path: Path
) -> None:
    data = {"ratings": str(raters / "ratings.jsonl"), "chat": geo.EvalData(texts["chat"])}
    with pytest.raises(DataError, match=r"^chat: .*chat\.txt: "):
        geo.soup([raters / "a", raters / "b"], tmp_path / "out", data=data)
    told = {"chat": geo.EvalData(texts["chat"], task="causal-lm"), "ratings": data["ratings"]}
    match = "^chat: .* cannot do causal-lm; it can do sequence-classification"
    with pytest.raises(ArgumentError, match=match):
        geo.soup([raters / "a", raters / "b"], tmp_path / "out", data=told)


def test_a_set_that_is_empty_after_cleaning_is_named(
    small: Path, texts: dict[str, str], tmp_path: Path
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"text": ""}\n{"text": "  "}\n')
    with pytest.raises(DataError, match=r"^bare: .*empty\.jsonl"):
        geo.soup([small / "a", small / "b"], data={**texts, "bare": str(empty)}, **HOW)
