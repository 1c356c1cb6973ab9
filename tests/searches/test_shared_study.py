"""Processes that share a study, and that are killed, on a journal file and on PostgreSQL."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from mergekit_geo.searches import ownership
from mergekit_geo.searches.study import SearchStudy
from tests.searches.toy import Toy, measured, search

STARTS = [("default recipe", {"w0": 0.5, "w1": 0.5}), ("parent a", {"w0": 1.0, "w1": 0.0})]
PATIENCE = 60.0


def opened(at: str | Path | None, name: str = "merge") -> SearchStudy:
    return SearchStudy.open(at, name, {"data": "a1"}, seed=2)


def searched(at: str | Path | None, name: str, trials: int, out: int | None = None) -> None:
    study = opened(at, name)
    study.enqueue(STARTS)
    for _ in range(trials):
        search(study, Toy(), 1)
        if out is not None:
            os.write(out, b".")


def forked(work: Callable[[], object]) -> int:
    """The number of a process that does some work."""
    if child := os.fork():
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.slow
def test_two_processes_share_the_trials_of_a_study_and_none_is_measured_twice(
    storage: str,
) -> None:
    children = [forked(lambda: searched(storage, "shared", 6)) for _ in range(2)]
    assert [code(child) for child in children] == [0, 0]
    found = opened(storage, "shared").finished()
    assert len(found) == 12
    assert not any(trial.error for trial in found)
    assert [trial.title for trial in found if trial.title] == ["default recipe", "parent a"]
    assert len({tuple(trial.values.values()) for trial in found}) == 12


@pytest.mark.slow
def test_a_search_that_is_killed_over_and_over_has_the_trials_of_one_that_is_not(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other process is alive: a trial without an owner is of one that was killed."""
    monkeypatch.setattr(ownership, "NAMELESS", timedelta(0))
    rng = np.random.default_rng(0)
    for _ in range(4):
        read, write = os.pipe()
        child = forked(lambda out=write: searched(storage, "killed", 1000, out))
        assert os.read(read, 1)  # it has measured one
        time.sleep(rng.uniform(0.0, 0.1))
        os.kill(child, signal.SIGKILL)
        assert code(child) == -signal.SIGKILL
        os.close(read)
        os.close(write)
    searched(storage, "killed", 4)
    found = opened(storage, "killed").finished()
    whole = opened(None)
    whole.enqueue(STARTS)
    expected = search(whole, Toy(), len(found))
    assert not any(trial.error for trial in found)
    by_place = {tuple(trial.values.values()) for trial in found}
    assert by_place == {tuple(values.values()) for values in expected}


def test_a_trial_whose_process_ends_twice_has_failed(tmp_path: Path) -> None:
    at = tmp_path / "s.journal"
    for _ in range(2):
        child = forked(lambda: (opened(at).ask(Toy()), os.kill(os.getpid(), signal.SIGKILL)))
        assert code(child) == -signal.SIGKILL
    study = opened(at)
    (found,) = study.finished()
    assert "process that measured it ended" in found.error
    number, _, _ = study.ask(Toy())
    assert number == 2


def test_a_study_that_is_not_shared_is_taken_over_from_a_container_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is started anew, in a container of another name."""
    at = tmp_path / "s.journal"
    monkeypatch.setattr("mergekit_geo.searches.owner.host", lambda: "container-1/0")
    lost, values, _ = opened(at).ask(Toy())
    monkeypatch.setattr("mergekit_geo.searches.owner.host", lambda: "container-2/0")
    assert opened(at).ask(Toy())[1] != values
    alone = SearchStudy.open(at, "merge", {"data": "a1"}, seed=2, shared=False)
    number, again, _ = alone.ask(Toy())
    assert again == values
    assert number > lost


def test_a_process_that_lives_keeps_its_trial(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "s.journal"), opened(tmp_path / "s.journal")
    number, values, _ = first.ask(Toy())
    assert second.ask(Toy())[0] == number + 1
    first.tell(number, 1.0, measured(number, values))
    assert [trial.number for trial in second.finished()] == [number]


@pytest.mark.slow
def test_a_machine_that_gives_no_signs_of_life_loses_its_trial(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mergekit_geo.searches.database.BEAT", 0.5)
    monkeypatch.setattr("mergekit_geo.searches.database.STALE", 4)
    monkeypatch.setattr("mergekit_geo.searches.ownership.is_gone", lambda _: False)
    lost, living, other = (opened(postgres, "machines") for _ in range(3))
    first, values, _ = lost.ask(Toy())
    kept, _, _ = living.ask(Toy())
    lost.close()
    ends = time.monotonic() + PATIENCE
    while (asked := other.ask(Toy()))[1] != values:
        assert time.monotonic() < ends
        other.fail(asked[0], "not the one")
        time.sleep(0.3)
    states = [trial.state.name for trial in other._trials()]
    assert (states[first], states[kept]) == ("FAIL", "RUNNING")
    lost.tell(first, 1.0, measured(first, values))
    living.tell(kept, 1.0, measured(kept, values))
    told = [trial.number for trial in other.finished() if trial.told]
    assert told == [kept]
    living.close()
    other.close()
