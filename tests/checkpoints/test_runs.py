"""Which checkpoints names and patterns stand for, and in which order they were made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mergekit_geo.checkpoints.runs import Run, checkpoints_of, step_of
from mergekit_geo.errors import ArgumentError, NotFoundError


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("run/checkpoint-100", "run/checkpoint-20", "run/checkpoint-3", "run/logs"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "run" / "checkpoint-7.safetensors").touch()
    (tmp_path / "run" / "checkpoint-8.json").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_patterns_and_lists_that_a_shell_spelt_out_are_the_same(run: Path) -> None:
    sorted_as_text = ["run/checkpoint-100", "run/checkpoint-20", "run/checkpoint-3"]
    by_step = ["run/checkpoint-3", "run/checkpoint-20", "run/checkpoint-100"]
    assert checkpoints_of(sorted_as_text)[0] == by_step
    found, runs = checkpoints_of("run/checkpoint-*")
    assert found == ["run/checkpoint-3", "run/checkpoint-7.safetensors", *by_step[1:]]
    assert runs == (Run("run", (0, 1, 2, 3), (3, 7, 20, 100)),)
    absolute, _ = checkpoints_of([run / "run" / "checkpoint-*"])
    assert absolute == [str(run / name) for name in found]
    assert checkpoints_of("run/checkpoint-[12]*")[0] == by_step[1:]


def test_what_has_no_step_stands_before_or_behind() -> None:
    names = ["gpt2", "run/checkpoint-100/", "run/checkpoint-20", "run"]
    found, runs = checkpoints_of(names)
    assert found == ["gpt2", "run/checkpoint-20", "run/checkpoint-100/", "run"]
    assert runs == (Run("run", (0, 1, 2, 3), (None, 20, 100, None)),)
    assert checkpoints_of(["org/name@step512", "org/name@step64"])[0][0] == "org/name@step64"


def test_models_that_are_not_numbered_are_in_the_order_in_which_they_are_named() -> None:
    state = {"w": torch.zeros(2)}
    for models in (["b", "a", "c"], ["llama-2", "run/best", "final"], [state, state, "a"]):
        found, runs = checkpoints_of(models)
        assert found == models
        assert runs == (Run("", (0, 1, 2), (None,) * 3),)


def test_several_runs_start_together_and_end_by_themselves() -> None:
    names = ["base", "x/step-9", "y/step-5", "x/step-1", "y", "y/step-50", "x/final"]
    found, runs = checkpoints_of(names)
    assert found == ["base", "x/step-1", "x/step-9", "x/final", "y/step-5", "y/step-50", "y"]
    assert runs == (
        Run("x", (0, 1, 2, 3), (None, 1, 9, None)),
        Run("y", (0, 4, 5, 6), (None, 5, 50, None)),
    )
    with pytest.raises(ArgumentError, match="z: of several runs, x, y, it cannot be told which"):
        checkpoints_of([*names, "z"])


def test_steps() -> None:
    assert step_of("run/epoch_12/") == ("run/epoch_", 12)
    assert step_of("base+run/checkpoint-5") == ("base+run/checkpoint-", 5)
    assert step_of("run/step5/model") is None


def test_a_pattern_that_matches_nothing(run: Path) -> None:
    with pytest.raises(NotFoundError, match=r"run/step-\*: no folder and no .safetensors file mat"):
        checkpoints_of(["run/step-*"])
    with pytest.raises(
        NotFoundError, match=r"\(run holds checkpoint-100, checkpoint-20, .*\.\.\.\)"
    ):
        checkpoints_of("run/step-*")
    with pytest.raises(NotFoundError, match=r"\(there is no folder other\)"):
        checkpoints_of("other/checkpoint-*")
    with pytest.raises(NotFoundError, match=r"checkpoint-8\.js\*: no folder"):
        checkpoints_of("run/checkpoint-8.js*")  # neither a folder nor weights
    with pytest.raises(ArgumentError, match="no models to follow"):
        checkpoints_of([])
