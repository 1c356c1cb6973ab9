"""Searches that share a storage, that are killed, and that are asked to end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

import mergekit_geo as geo
from mergekit_geo.cli.app import main
from mergekit_geo.searches.storage import open_storage
from tests.forks import PATIENCE

pytestmark = pytest.mark.slow

FORK = multiprocessing.get_context("fork")
"""Processes that begin with what this one has imported."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def words(small: Path, texts: Path, tmp_path: Path) -> list[str]:
    """A search of two weights, without where it writes and how many trials it makes."""
    recipe = tmp_path / "recipe.yml"
    models = "\n".join(
        f"  - {{model: {small / name}, parameters: {{weight: {{min: 0, max: 2}}}}}}"
        for name in "ab"
    )
    recipe.write_text(f"merge_method: linear\nmodels:\n{models}\n")
    return [
        "geo-merge", "search", str(recipe), f"--data={texts}", "--sharpness=off", "--budget=0",
        "--no-learned", "--no-racing", "--device=cpu",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mergekit_geo.data.text import builtin_documents

    words = [" ".join(document.text.split()) for document in builtin_documents("train")]
    file = tmp_path_factory.mktemp("texts") / "texts.txt"
    file.write_text("\n\n".join(text[:120] for text in words[:50]))
    return file


def begin(words: Sequence[str], said: Path) -> BaseProcess:
    """The command in a process of its own."""

    def run() -> None:
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
        sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1, closefd=False)
        sys.argv = list(words)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main()

    process = FORK.Process(target=run)
    process.start()
    return process


def wait_until(happened: Callable[[], bool], process: BaseProcess) -> None:
    until = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < until
        assert process.is_alive()
        time.sleep(0.02)


def finished(storage: Path, name: str = "recipe") -> list[FrozenTrial]:
    """Trials of a study that are over, read by somebody else; none before there is one."""
    try:
        study = optuna.load_study(study_name=name, storage=open_storage(storage))
    except KeyError:
        return []
    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])


def test_two_searches_on_one_storage_make_every_trial_once(
    words: list[str], tmp_path: Path
) -> None:
    storage = tmp_path / "shared.log"
    both = [
        begin([*words, "-o", str(tmp_path / out), f"--storage={storage}", "--trials=8"],
              tmp_path / f"{out}.txt")
        for out in ("first", "second")
    ]  # fmt: skip
    for process in both:
        process.join(PATIENCE)
    assert [process.exitcode for process in both] == [0, 0]
    trials = finished(storage)
    assert len(trials) == 16
    assert len({tuple(one.params.values()) for one in trials}) == 16
    best = [geo.read_report(tmp_path / out).result.search.taken for out in ("first", "second")]
    assert min(trials, key=lambda one: one.value or 0).number in best


def test_a_killed_search_loses_its_running_trial_at_most(words: list[str], tmp_path: Path) -> None:
    storage = tmp_path / "out.study.log"
    asked = [*words, "-o", str(tmp_path / "out")]
    process = begin([*asked, "--trials=5000"], tmp_path / "said.txt")
    wait_until(lambda: storage.exists() and len(finished(storage)) > 3, process)
    process.kill()
    process.join(PATIENCE)
    before = finished(storage)
    assert not (tmp_path / "out").exists()
    rest = begin([*asked, f"--trials={len(before) + 3}"], tmp_path / "rest.txt")
    rest.join(PATIENCE)
    assert rest.exitcode == 0
    after = finished(storage)
    assert after[: len(before)] == before
    assert len(after) == len(before) + 3
    every = optuna.load_study(study_name="recipe", storage=open_storage(storage)).trials
    lost = [one.params for one in every if one.state is not TrialState.COMPLETE]
    assert len(lost) <= 1  # and it was measured again, under another number
    places = [one.params.items() for one in after]  # of the lost one, what was drawn so far
    assert all(any(params.items() <= place for place in places) for params in lost)


def test_a_search_that_is_asked_to_end_writes_the_best_so_far(
    words: list[str], tmp_path: Path
) -> None:
    out, said = tmp_path / "out", tmp_path / "said.txt"
    process = begin([*words, "-o", str(out), "--trials=5000"], said)
    wait_until(lambda: said.exists() and "best so far" in said.read_text(), process)
    os.kill(process.pid or 0, signal.SIGINT)
    process.join(PATIENCE)
    assert process.exitcode == 130
    report = geo.read_report(out).result.search
    assert report.interrupted
    assert (out / "model.safetensors").exists()
    whole = [one for one in report.trials if one.is_whole]
    assert report.taken == min(whole, key=lambda one: one.value).number
    assert "interrupted: the best so far was written" in said.read_text()


def test_a_second_signal_writes_nothing(words: list[str], tmp_path: Path) -> None:
    out, said = tmp_path / "out", tmp_path / "said.txt"
    process = begin([*words, "-o", str(out), "--trials=5000"], said)
    wait_until(lambda: said.exists() and "best so far" in said.read_text(), process)
    os.kill(process.pid or 0, signal.SIGINT)
    time.sleep(0.05)
    os.kill(process.pid or 0, signal.SIGINT)
    process.join(PATIENCE)
    assert process.exitcode == 130
    assert not out.exists()
    assert (tmp_path / "out.study.log").exists()


def test_workers_find_what_one_process_finds(words: list[str], tmp_path: Path) -> None:
    found = []
    for out, workers in (("one", 1), ("two", 2)):
        asked = [*words, "-o", str(tmp_path / out), "--trials=6", "--sampler=random"]
        process = begin([*asked, f"--workers={workers}"], tmp_path / f"{out}.txt")
        process.join(PATIENCE)
        assert process.exitcode == 0, (tmp_path / f"{out}.txt").read_text()
        trials = geo.read_report(tmp_path / out).result.search.trials
        found.append({one.number: (one.values, one.value) for one in trials})
    assert found[0] == found[1]
    assert sorted(found[0]) == list(range(6))


def test_a_search_that_has_measured_nothing_is_interrupted(
    words: list[str], tmp_path: Path
) -> None:
    out, said = tmp_path / "out", tmp_path / "said.txt"
    process = begin([*words, "-o", str(out), "--trials=5000", "--workers=2"], said)
    wait_until(lambda: len(psutil.Process(process.pid).children()) >= 2, process)
    os.kill(process.pid or 0, signal.SIGINT)
    process.join(PATIENCE)
    assert process.exitcode == 130
    assert said.read_text().endswith(
        "interrupted: nothing is half-written; the same command continues\n"
    )
    assert not out.exists()
