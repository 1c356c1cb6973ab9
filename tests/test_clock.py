"""One budget for all measuring of a command."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import mergekit_geo as geo
from mergekit_geo import clock
from mergekit_geo.clock import Clock, one_clock
from mergekit_geo.commands import evidence
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.evaluation.plan import SharpnessReport
from mergekit_geo.evaluation.study import Study


class Time:
    """Goes on when it is told to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    found = Time()
    monkeypatch.setattr(clock, "time", found)
    return found


def test_time_counts_once_while_something_runs(time: Time) -> None:
    budget = Clock(1)
    time.now += 7
    with budget.running():
        time.now += 10
        with budget.running():
            time.now += 5
        assert budget.left == 45
        with budget.resting():
            time.now += 100
            with budget.running():
                time.now += 2
            time.now += 100
        time.now += 3
    time.now += 1000
    assert budget.left == 40
    with budget.running():
        time.now += 1000
    assert budget.left == 0


def test_the_members_to_come_share_what_is_left(time: Time) -> None:
    budget, shares = Clock(1), []
    for number in range(3):
        with budget.share(3 - number):
            shares.append(budget.left)
            with budget.running():
                time.now += (5, 40, 1)[number]
    assert shares == pytest.approx([20, 27.5, 15])
    unlimited = Clock(0)
    with unlimited.share(3):
        assert unlimited.left == math.inf


def test_a_command_within_a_command_has_no_clock_of_its_own(time: Time) -> None:
    def inner(minutes: float) -> float:
        with one_clock(minutes) as found:
            return found.left

    def outer(minutes: float) -> float:
        with one_clock(minutes) as found, found.running():
            time.now += 10
            return inner(minutes)

    assert outer(1) == 50
    assert inner(1) == 60


def test_sharpness_has_what_choosing_and_losses_leave(
    time: Time, family: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measure, count, left = TaskObjective.measure, 0, []

    def slow(*given: Any, **options: Any) -> Any:
        nonlocal count
        time.now, count = time.now + 1, count + 1
        return measure(*given, **options)

    def seen(study: Study, *given: Any) -> SharpnessReport:
        left.append(study.clock.left + count)
        raise DataError("it is seen")

    monkeypatch.setattr(TaskObjective, "measure", slow)
    monkeypatch.setattr(evidence, "measure_sharpness", seen)
    data = geo.EvalData("builtin:python-docs", max_examples=120, seq_len=32)
    geo.soup(
        [family / name for name in "abc"], choosing=geo.SelectionConfig(method="greedy"), data=data,
        compute=geo.Compute(budget=100),
    )  # fmt: skip
    assert left == [6000]
    assert count > 12
