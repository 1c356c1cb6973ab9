"""Several sets at points between models: one module and one move for all of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

import mergekit_geo as geo
from mergekit_geo.checkpoints.compatibility import preflight
from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.evaluation.study import Study
from mergekit_geo.specs.measures import BarrierSpec


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, str]:
    return write_texts(tmp_path)


def write_texts(folder: Path) -> dict[str, str]:
    """Two files of other documents, a set each."""
    topics = [document.text[:200] for document in builtin_documents("train")]
    files = {"first": topics[:16], "second": topics[16:40]}
    for name, parts in files.items():
        (folder / f"{name}.txt").write_text("\n\n".join(" ".join(p.split()) for p in parts))
    return {name: str(folder / f"{name}.txt") for name in files}


def study_of(small: Path, data: Any, **more: Any) -> Study:
    models = open_checkpoints([small / "a", small / "b"])
    return Study.of(models, preflight(models), BarrierSpec(models, data=data, **more))


def test_each_set_is_measured_as_by_itself_and_the_module_moves_once(
    small: Path, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = PointEvaluator.open(study_of(small, texts), 5)
    moves: list[Any] = []
    put = both.live.put
    monkeypatch.setattr(both.live, "put", lambda blend: (moves.append(blend), put(blend)))
    middle = Point.mean([0, 1], both.names)
    found = both.at_all(middle)
    assert len(moves) == 1
    assert both.at_all(middle)[0] is found[0]
    assert len(moves) == 1
    for (name, source), together in zip(texts.items(), found, strict=True):
        alone = PointEvaluator.open(study_of(small, source), 3)
        assert np.array_equal(alone.at(middle).loss, together.loss), name
    assert [one.study.name for one in both.every] == ["first", "second"]


def test_each_set_has_halves_of_its_own(small: Path, texts: dict[str, str]) -> None:
    both = PointEvaluator.open(study_of(small, texts), 5)
    for one in both.every:
        rows = one.split
        assert len(rows.selection) + len(rows.report) == len(one.at_model(0).loss)


def test_losses_of_a_model_are_kept_whatever_it_is_measured_beside(
    small: Path, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = PointEvaluator.open(study_of(small, texts), 5).at_model(1)
    monkeypatch.setattr(TaskObjective, "measure", _refuse)
    models = open_checkpoints([small / "b", small / "c"])
    asked = BarrierSpec(models, data=geo.EvalData(texts["first"]), compute=geo.Compute(budget=0))
    study = Study.of(models, preflight(models), asked)
    monkeypatch.setattr("mergekit_geo.evaluation.evaluator._seconds_each", lambda *_: 1.0)
    after = PointEvaluator.open(study, 99)
    assert np.array_equal(after.at_model(0).loss, before.loss)
    with pytest.raises(AssertionError, match="measured anew"):
        after.at_model(1)


def test_another_model_in_its_place_is_measured_anew(
    small: Path, texts: dict[str, str], tmp_path: Path
) -> None:
    place = tmp_path / "model"
    shutil.copytree(small / "a", place)

    def loss() -> float:
        models = open_checkpoints([place, small / "c"])
        study = Study.of(models, preflight(models), BarrierSpec(models, data=texts["first"]))
        return PointEvaluator.open(study, 3).at_model(0).mean

    first = loss()
    shutil.copy(small / "b" / "model.safetensors", place)
    assert loss() != first


def test_a_budget_shrinks_all_sets_by_the_same_factor(
    small: Path, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    each = iter([3.0, 9.0])
    monkeypatch.setattr("mergekit_geo.evaluation.evaluator._seconds_each", lambda *_: next(each))
    data = {name: geo.EvalData(source, batch_size=1, seq_len=8) for name, source in texts.items()}
    study = study_of(small, data, compute=geo.Compute(budget=1))
    full = [len(one.plan.objective.kept) for one in study.sets]  # type: ignore[union-attr]
    found = PointEvaluator.open(study, 10).every  # 120 s in a minute
    for one, count in zip(found, full, strict=True):
        assert one.module_evaluator.count == pytest.approx(count / 2, abs=1)


def test_a_set_that_cannot_be_measured_is_named(small: Path, texts: dict[str, str]) -> None:
    study = study_of(small, {"own": texts["first"], "more": geo.EvalData()})
    study.require_measurable()
    empty = study_of(small, None)
    with pytest.raises(DataError, match="loss cannot be measured: evaluation was turned off"):
        empty.require_measurable()


def _refuse(objective: TaskObjective, model: nn.Module, advance: Any = None) -> Tensor:
    raise AssertionError("measured anew")
