"""The order of the examples: every one once, in equal shares of every set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mergekit_geo as geo
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.searches.schedule import FEWEST, Schedule, looks_of
from tests.evaluation.test_sets import study_of, write_texts


@pytest.fixture(scope="module")
def evaluator(small: Path, tmp_path_factory: pytest.TempPathFactory) -> PointEvaluator:
    """A set of few long documents, and one of many short ones."""
    data: dict[str, Any] = {
        "docs": geo.EvalData("builtin:python-docs", max_examples=400, seq_len=16),
        "code": geo.EvalData("builtin:python-source", max_examples=300, seq_len=16),
    }
    return PointEvaluator.open(study_of(small, data), 3)


def test_every_example_of_the_selection_half_is_measured_once(evaluator: PointEvaluator) -> None:
    schedule = Schedule.of(evaluator)
    assert min(order.ends[0] for order in schedule.sets) == FEWEST
    for index, one in enumerate(evaluator.every):
        rows = [schedule.rows(look, index) for look in range(schedule.looks)]
        assert sorted(np.concatenate(rows)) == sorted(one.split.selection)
        order = schedule.sets[index]
        assert np.array_equal(order.ends, np.cumsum([len(block) for block in rows]))
        assert np.array_equal(order.document, one.best.document[np.concatenate(rows)])


def test_each_look_has_met_the_same_share_of_every_set(evaluator: PointEvaluator) -> None:
    schedule = Schedule.of(evaluator)
    for order in schedule.sets:
        n = len(order.weights)
        assert order.ends / n == pytest.approx(schedule.met, abs=1 / n)
    assert schedule.met[-1] == 1
    assert schedule.cost.sum() == pytest.approx(1)
    assert np.cumsum(schedule.cost) == pytest.approx(schedule.met, abs=0.03)


def agree(one: PointEvaluator, schedule: Schedule, index: int) -> None:
    """Losses of units are the same from blocks that are measured and from all examples."""
    found, order = one.at_model(1), schedule.sets[index]
    one.go_to(Point.model(1, "b"))
    whole = schedule.losses(found, index, None)
    parts = []
    for look in range(schedule.looks):
        block = one.module_evaluator.on(schedule.rows(look, index), one.live.model)
        parts.append(schedule.losses(block, index, look))
    assert np.allclose(np.concatenate(parts), whole, rtol=1e-5)
    assert [len(part) for part in parts] == list(np.diff(order.ends, prepend=0))
    mean = order.weights @ whole / order.weights.sum()
    assert mean == pytest.approx(found.take(one.split.selection).mean)
    assert np.allclose(schedule.losses(one.best, index, None), order.best)


def test_losses_of_units_are_the_same_from_blocks_and_from_all(evaluator: PointEvaluator) -> None:
    schedule = Schedule.of(evaluator)
    for index, one in enumerate(evaluator.every):
        agree(one, schedule, index)


def test_documents_stay_whole_where_their_examples_are_measured_against_one_another(
    evaluator: PointEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = replace(evaluator.every[1], further=())
    objective = one.module_evaluator.objective
    assert isinstance(objective, TaskObjective)
    monkeypatch.setattr(one.module_evaluator, "objective", replace(objective, whole=True))
    schedule = Schedule.of(one)
    assert len(schedule.sets[0].weights) == len(set(schedule.sets[0].document)) == one.documents
    agree(one, schedule, 0)


def test_the_order_is_fixed_by_its_seed(evaluator: PointEvaluator) -> None:
    one, same, other = (Schedule.of(evaluator, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one.rows(0, 0), same.rows(0, 0))
    assert not np.array_equal(one.rows(0, 0), other.rows(0, 0))


def test_without_racing_there_is_one_look_at_all(evaluator: PointEvaluator) -> None:
    schedule = Schedule.of(evaluator, racing=False)
    assert schedule.looks == 1
    assert schedule.cost.tolist() == [1.0]
    assert len(schedule.rows(0, 0)) == len(evaluator.split.selection)


def test_few_examples_are_looked_at_later_and_less_often() -> None:
    assert looks_of({"a": 4000}) == pytest.approx([0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0])
    assert looks_of({"a": 400, "b": 48}) == [0.25, 0.5, 1.0]
    assert looks_of({"a": 24}) == [0.5, 1.0]


def test_too_few_examples_are_refused(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    texts = {name: geo.EvalData(file, seq_len=256) for name, file in write_texts(tmp_path).items()}
    few = PointEvaluator.open(study_of(small, texts), 3)
    with pytest.raises(
        DataError,
        match=r"racing needs at least 24 examples to choose on, and first has \d+ \(give more "
        r"documents .* with --no-racing\)",
    ):
        Schedule.of(few)
    assert Schedule.of(few, racing=False).looks == 1


def test_a_loss_function_cannot_be_raced(small: Path) -> None:
    whole = geo.FunctionObjective(lambda model, batch: batch, [torch.rand(30)] * 4)
    one = PointEvaluator.open(study_of(small, whole), 3)
    with pytest.raises(DataError, match="measured on all its batches, and racing needs parts"):
        Schedule.of(one)
    assert len(Schedule.of(one, racing=False).sets[0].weights) == one.documents
