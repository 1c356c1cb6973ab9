"""Processes of a pool, with real ones: who is killed loses a trial, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import active_children
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from mergekit_geo.errors import ArgumentError, GeoError, IncompatibleError, InternalError
from mergekit_geo.searches.engine import Engine
from mergekit_geo.searches.pool import Pool, environments
from mergekit_geo.searches.trial import Outcome, Trial
from mergekit_geo.searches.workers import Workers
from tests.searches import measures
from tests.searches.measures import Counted, pid

PATIENCE = 60.0
NO_DEVICES = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
"""Nobody has to load torch to ask for them."""


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Two processes, which the tests of this module share."""
    with Pool(measures.plain, 2) as engine:
        yield all_ready(engine)


All = TypeVar("All", bound=Workers[Any])


def all_ready(engine: All) -> All:
    """The engine, once all its workers wait for a trial."""
    until = time.monotonic() + PATIENCE
    while not all(worker.is_free for worker in engine._workers) and time.monotonic() < until:
        assert engine.finished(wait=0.1) == []
    return engine


def results(engine: Engine, trials: list[dict[str, Any]]) -> list[Outcome]:
    """Outcomes of trials by their number, which is their place."""
    for number, values in enumerate(trials):
        engine.submit(Trial(number, values))
    found: list[Outcome] = []
    until = time.monotonic() + PATIENCE
    while len(found) < len(trials) and time.monotonic() < until:
        found += engine.finished(wait=1.0)
    assert sorted(outcome.number for outcome in found) == list(range(len(trials)))
    return sorted(found, key=lambda outcome: outcome.number)


def test_trials_are_measured_by_all_processes_and_each_once(pool: Pool) -> None:
    found = results(pool, [{"x": x, "seconds": 0.05} for x in range(8)])
    assert [outcome.losses[0][0] for outcome in found] == [x**2 for x in range(8)]
    assert len({pid(outcome) for outcome in found}) == 2
    assert os.getpid() not in {pid(outcome) for outcome in found}
    assert pool.finished(wait=0.0) == []


def test_waiting_ends_with_the_first_trial_that_has_ended(pool: Pool) -> None:
    all_ready(pool)
    begun = time.monotonic()
    pool.submit(Trial(0, {"seconds": 0.1}))
    pool.submit(Trial(1, {"seconds": 0.6}))
    assert [outcome.number for outcome in pool.finished(wait=PATIENCE)] == [0]
    assert time.monotonic() - begun < 0.5
    assert pool.finished(wait=0.0) == []
    assert [outcome.number for outcome in pool.finished(wait=PATIENCE)] == [1]


def test_what_cannot_be_measured_is_told_and_its_process_goes_on(pool: Pool) -> None:
    before = {pid(outcome) for outcome in results(all_ready(pool), [{"seconds": 0.2}] * 2)}
    found = results(pool, [{"do": "fail"}, *[{"seconds": 0.2}] * 2])
    assert found[0].error == "layer 0: infinity (a smaller weight)"
    assert {pid(outcome) for outcome in found[1:]} == before


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("kill", "its process was ended by signal 9, perhaps for want of memory"),
        ("exit", "its process ended with exit code 3"),
    ],
)
def test_a_process_that_is_lost_takes_its_trial_along_and_is_replaced(
    pool: Pool, how: str, why: str
) -> None:
    found = results(pool, [{"do": how}, *[{"seconds": 0.2}] * 5])
    assert [outcome.error for outcome in found] == [why, "", "", "", "", ""]
    assert len({pid(outcome) for outcome in results(all_ready(pool), [{"seconds": 0.2}] * 2)}) == 2


def test_a_process_that_is_killed_while_it_waits_costs_no_trial(pool: Pool) -> None:
    before = {pid(outcome) for outcome in results(all_ready(pool), [{"seconds": 0.2}] * 2)}
    process = psutil.Process(min(before))
    process.kill()
    while process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    time.sleep(0.05)  # its other threads
    assert [outcome.error for outcome in results(pool, [{}] * 4)] == [""] * 4


def test_what_a_library_prints_is_not_among_results(
    pool: Pool, capfd: pytest.CaptureFixture[str]
) -> None:
    assert results(pool, [{"do": "print"}])[0].error == ""
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_models_are_opened_once_in_each_process_that_is_used(tmp_path: Path) -> None:
    with Pool(Counted(tmp_path, most=2), 2) as engine:
        found = results(engine, [{"seconds": 0.1}] * 6)
        assert {path.name for path in tmp_path.iterdir()} == {str(pid(o)) for o in found}
        assert results(engine, [{"do": "kill"}, {}])[1].error == ""
        assert results(engine, [{}])[0].error == ""
        while engine.slots == 2:  # its successor cannot open: the other one goes on alone
            engine.finished(wait=0.1)
        assert results(engine, [{}, {}])[1].error == ""
        engine.submit(Trial(0, {"do": "kill"}))
        with pytest.raises(IncompatibleError, match="a is a Llama"):
            results_of_one(engine)


def results_of_one(engine: Engine) -> None:
    """Listen until something is raised."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        engine.finished(wait=0.5)


@pytest.mark.parametrize(
    ("opening", "error", "match"),
    [
        (measures.refused, IncompatibleError, r"2 problems:\n  - a is a Llama\n.*other models"),
        (measures.broken, InternalError, "KeyError: 'no such key'"),
        (measures.killed, GeoError, "cannot open the models, in 3 tries: .*signal 9.*--workers"),
    ],
)
def test_models_that_cannot_be_opened_end_the_search(
    opening: Any, error: type[GeoError], match: str
) -> None:
    before = active_children()
    with Pool(opening, 1) as engine:
        engine.submit(Trial(0, {}))
        with pytest.raises(error, match=match):
            results_of_one(engine)
    assert set(active_children()) == set(before)


def test_what_cannot_be_sent_is_refused_before_a_process_is_started() -> None:
    with pytest.raises(ArgumentError, match=r"--workers: .* cannot be sent to other processes: "):
        Pool(lambda: measures.measure, 2)


@pytest.mark.parametrize(
    ("told", "devices"),
    [
        ("4,5", ["4", "5", "4"]),
        ("GPU-8932f937, MIG-1c", ["GPU-8932f937", "MIG-1c", "GPU-8932f937"]),
        ("", [None, None, None]),
    ],
)
def test_each_worker_has_a_device_of_those_that_may_be_used(
    told: str, devices: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
    found = environments(3)
    assert [environment.get("CUDA_VISIBLE_DEVICES") for environment in found] == devices


def test_all_accelerators_are_used_where_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("mergekit_geo.searches.pool.cores", lambda: 8)
    assert environments(2) == [
        {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "0"},
        {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "1"},
    ]


SEARCHING = """
import os, sys, time
from mergekit_geo.cli import app
from mergekit_geo.interrupt import finishing
from mergekit_geo.searches.pool import Pool
from mergekit_geo.searches.trial import Trial
from tests.searches import measures
from tests.searches.measures import pid

def work():
    with Pool(measures.plain, 2) as engine, finishing() as asked:
        engine.submit(Trial(0, {"seconds": 0}))
        while not engine.finished(0.1):
            pass
        engine.submit(Trial(1, {"seconds": 1}))
        engine.submit(Trial(2, {"seconds": 600}))
        print("begun", flush=True)
        while not asked.set:
            engine.finished(0.05)
        print("asked", flush=True)
        found = [outcome.error for outcome in engine.finished(20)]
        print("finished", found, flush=True)
        time.sleep(float(sys.argv[1]))
    return 0

if __name__ == "__main__":
    app._run = work
    app.main()
"""


class Searching(subprocess.Popen):  # type: ignore[type-arg]
    """A search with two trials that run, in a group of processes of its own as in a terminal."""

    def __init__(self, folder: Path, seconds: float) -> None:
        script = folder / "searching.py"
        script.write_text(SEARCHING)
        super().__init__(
            [sys.executable, str(script), str(seconds)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=NO_DEVICES,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert self.said() == "begun"
        self.workers = psutil.Process(self.pid).children(recursive=True)

    def said(self) -> str:
        assert self.stdout is not None
        return str(self.stdout.readline().rstrip("\n"))

    def ctrl_c(self) -> None:
        os.killpg(self.pid, signal.SIGINT)

    def ended(self) -> tuple[int, str]:
        """Its exit code and standard error; nobody is left behind."""
        _, stderr = self.communicate(timeout=20)
        assert psutil.wait_procs(self.workers, timeout=5)[1] == []
        return self.returncode, stderr


@pytest.mark.slow
def test_ctrl_c_lets_a_trial_end_and_ends_the_others(tmp_path: Path) -> None:
    process = Searching(tmp_path, 0)
    process.ctrl_c()
    assert process.said() == "asked"
    assert process.said() == "finished ['']"
    assert process.ended() == (130, "interrupted: nothing was started\n")


Ending = Callable[[Searching], None]


@pytest.mark.slow
@pytest.mark.parametrize("end", [Searching.ctrl_c, Searching.kill], ids=["ctrl-c", "kill"])
def test_a_second_ctrl_c_and_a_kill_end_everything_at_once(tmp_path: Path, end: Ending) -> None:
    process = Searching(tmp_path, 600)
    process.ctrl_c()
    assert process.said() == "asked"
    begun = time.monotonic()
    end(process)
    code, stderr = process.ended()
    assert time.monotonic() - begun < 3
    assert "Traceback" not in stderr
    if end is Searching.ctrl_c:
        assert (code, stderr.splitlines()) == (130, ["interrupted: nothing was started"])


@pytest.mark.slow
def test_ctrl_c_while_processes_start_leaves_them_alone(tmp_path: Path) -> None:
    code = (
        "import os, signal\n"
        "from mergekit_geo.interrupt import finishing\n"
        "from mergekit_geo.searches.pool import Pool\n"
        "from mergekit_geo.searches.trial import Trial\n"
        "from tests.searches import measures\n"
        "if __name__ == '__main__':\n"
        "    with finishing() as asked, Pool(measures.plain, 1) as engine:\n"
        "        os.killpg(os.getpid(), signal.SIGINT)\n"
        "        engine.submit(Trial(0, {}))\n"
        "        print(asked.set, engine.finished(30)[0].error)\n"
    )
    (tmp_path / "script.py").write_text(code)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, check=False,
        env=NO_DEVICES, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("True \n", "", 0)
