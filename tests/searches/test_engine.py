"""An engine gives back every trial it was given, also those that cannot be measured."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mergekit_geo as geo
from mergekit_geo.errors import ArgumentError, NonFiniteError
from mergekit_geo.searches.engine import Here
from mergekit_geo.searches.trial import Outcome, Trial


def measure(trial: Trial) -> Outcome:
    value = trial.values["x"]
    if value == "infinite":
        raise NonFiniteError("infinity", where="layer 0", remedy="a smaller weight")
    return Outcome(trial.number, losses=(np.array([float(value) ** 2]),))


def test_trials_are_measured_one_at_a_time_in_their_order() -> None:
    with Here(measure) as engine:
        assert engine.slots == 1
        assert engine.finished(wait=0.0) == []
        for number in range(3):
            engine.submit(Trial(number, {"x": number}))
        found = [engine.finished(wait=0.0) for _ in range(4)]
    assert [[outcome.number for outcome in some] for some in found] == [[0], [1], [2], []]
    assert [float(some[0].losses[0][0]) for some in found[:3]] == [0, 1, 4]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("infinite", "layer 0: infinity (a smaller weight)"),
        ("none", "ValueError: could not convert string to float: 'none'"),
    ],
)
def test_what_cannot_be_measured_is_told_and_the_next_one_is_measured(value: str, why: str) -> None:
    with Here(measure) as engine:
        engine.submit(Trial(0, {"x": value}))
        engine.submit(Trial(1, {"x": 3}))
        failed, fine = [*engine.finished(wait=0.0), *engine.finished(wait=0.0)]
    assert (failed.number, failed.error, failed.losses, failed.share) == (0, why, (), 0.0)
    assert (fine.number, fine.error) == (1, "")


def test_an_interrupt_is_no_outcome() -> None:
    def interrupted(trial: Trial) -> Outcome:
        raise KeyboardInterrupt

    with Here(interrupted) as engine:
        engine.submit(Trial(0, {}))
        with pytest.raises(KeyboardInterrupt):
            engine.finished(wait=0.0)


def nothing(*given: object) -> Any:
    raise AssertionError


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"workers": 2, "data": geo.FunctionObjective(nothing, [])}, "cannot measure a function"),
        ({"ray_address": "auto"}, r"of a Ray cluster \(--engine ray"),
        ({"num_gpus": 1}, r"of a Ray cluster \(--engine ray"),
        (
            {"workers": 2, "compute": geo.Compute(device="cuda:1")},
            r"--device names one: cuda:1 \(.*CUDA_VISIBLE_DEVICES",
        ),
    ],
)
def test_what_other_processes_cannot_do_is_refused(
    asked: dict[str, Any], match: str, small: Path
) -> None:
    weight = {"weight": {"min": 0, "max": 1}}
    models = [{"model": str(small / name), "parameters": weight} for name in "ab"]
    call: dict[str, Any] = {"data": "texts.txt", **asked}
    with pytest.raises(ArgumentError, match=match):
        geo.search({"merge_method": "linear", "models": models}, None, **call)
