"""Killed, interrupted or out of space: nothing is half-written; the same command continues."""

import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from mergekit_geo.cli.app import app
from tests.conftest import Save

TENSORS, ELEMENTS = 150, 1 << 19


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models of 150 MB, so that a merge can be caught in the middle."""
    folder = tmp_path_factory.mktemp("models")
    noise = torch.randn(ELEMENTS + TENSORS).bfloat16()
    for seed, name in enumerate("ab"):
        (folder / name).mkdir()
        state = {f"w{i}": (noise[i : i + ELEMENTS] * (seed + 1)).clone() for i in range(TENSORS)}
        save_file(state, folder / name / "model.safetensors", metadata={"format": "pt"})
    return [folder / "a", folder / "b"]


def command(models: list[Path], out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "mergekit_geo", "slerp", *map(str, models), "-o", str(out),
            "--no-eval", "--no-fsync", *more]  # fmt: skip


def stop_in_the_middle(models: list[Path], out: Path, stop: signal.Signals) -> tuple[int, str]:
    """Start a merge, and send a signal once its journal knows of a few tensors.

    A merge takes a fraction of a second: one that was done before the signal came is thrown away,
    and another one is started.
    """
    for _ in range(10):
        process = subprocess.Popen(
            command(models, out),
            stderr=subprocess.PIPE,
            text=True,
            # what a shell starts in the background is deaf to Ctrl-C, and so are its children
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
        if has_begun(process, out.with_name(out.name + ".partial") / "journal.jsonl"):
            process.send_signal(stop)
        _, stderr = process.communicate(timeout=60)
        if process.returncode != 0:
            return process.returncode, stderr
        shutil.rmtree(out)
    raise AssertionError("it was done before it could be stopped, ten times")


def has_begun(process: "subprocess.Popen[str]", journal: Path) -> bool:
    """Wait for a few tensors; false if the process is done before they are seen."""
    while process.poll() is None:
        if journal.is_file() and journal.read_bytes().count(b"\n") >= 5:
            return True
        time.sleep(0.001)
    return False


@pytest.fixture(scope="module")
def whole(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    subprocess.run(command(models, out), check=True, capture_output=True)
    return out


CODES = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


@pytest.mark.parametrize("stop", CODES, ids=lambda s: s.name)
@pytest.mark.slow
def test_stopped_run_goes_on_to_the_same_bytes(
    models: list[Path], whole: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    out = tmp_path / "out"
    code, stderr = stop_in_the_middle(models, out, stop)
    assert not out.exists()
    assert code == CODES[stop]
    if stop in WORDS:
        said = f"{WORDS[stop]}: nothing is half-written; the same command continues"
        assert stderr.splitlines()[1:] == [said]
    subprocess.run(command(models, out), check=True, capture_output=True)
    report = (out / "report.json").read_text()
    assert '"resumed: ' in report
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in whole.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_changed_recipe_starts_over_and_says_so(models: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    stop_in_the_middle(models, out, signal.SIGKILL)
    done = subprocess.run(
        command(models, out, "--t", "0.25"), check=True, capture_output=True, text=True
    )
    assert "started over" in done.stderr.replace("\n", " ")
    assert '"resumed: ' not in (out / "report.json").read_text()


@pytest.mark.slow
def test_changed_input_starts_over_and_says_so(models: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    stop_in_the_middle(models, out, signal.SIGKILL)
    (models[1] / "model.safetensors").touch()
    done = subprocess.run(command(models, out), check=True, capture_output=True, text=True)
    assert "started over" in done.stderr.replace("\n", " ")


@pytest.mark.slow
def test_full_disk_keeps_inputs_and_the_old_output(models: list[Path], whole: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in [*whole.iterdir(), *models[0].iterdir()]}
    done = subprocess.run(
        command(models, whole, "--overwrite"), capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**8, 10**8)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "the output needs 0.16 GB" in done.stderr or "needs 157." in done.stderr
    assert "free some space" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert not whole.with_name("out.partial").exists()


AT_IMPORT = """
import os, signal, sys

place, number = sys.argv[1], int(sys.argv[2])

class Now:
    def find_spec(self, name, path=None, target=None):
        if name == place:
            os.kill(os.getpid(), number)
            {then}

def called(frame, event, arg):
    if frame.f_code.co_name == place:
        sys.setprofile(None)
        os.kill(os.getpid(), number)

sys.meta_path.insert(0, Now())
if "." not in place:
    sys.setprofile(called)
from mergekit_geo.cli.app import main
sys.argv[1:] = sys.argv[3:]
main()
"""
"""The command, sent a signal when it imports a module, or calls a function."""


def stop_at(
    place: str, stop: signal.Signals, *words: object, then: str = "pass"
) -> "subprocess.CompletedProcess[str]":
    code = AT_IMPORT.format(then=then)
    return subprocess.run(
        [sys.executable, "-c", code, place, str(int(stop)), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("stop", WORDS, ids=lambda s: s.name)
@pytest.mark.parametrize(
    ("place", "said", "is_out"),
    [
        ("mergekit_geo.cli.commands", "nothing was started", False),
        ("mergekit_geo.commands._merge", "nothing is half-written; the same", False),
        ("print_report", "the work had finished", True),
    ],
    ids=["when it starts", "when it loads libraries", "when it prints"],
)
@pytest.mark.slow
def test_a_signal_is_one_line_at_any_time(
    save: Save, tmp_path: Path, stop: signal.Signals, place: str, said: str, is_out: bool
) -> None:
    out = tmp_path / "out"
    done = stop_at(place, stop, "slerp", save("a"), save("b"), "-o", out, "--no-eval", "--quiet")
    assert done.returncode == CODES[stop]
    assert done.stderr.startswith(f"{WORDS[stop]}: {said}")
    assert len(done.stderr.splitlines()) == 1
    assert (out / "report.json").is_file() == is_out


def test_a_signal_while_an_output_is_pushed_tells_what_pushes_it(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mergekit_geo.commands.early.prepare_push", lambda *given: None)
    monkeypatch.setattr("mergekit_geo.commands._push.pushed", stopped)
    out = tmp_path / "out"
    words = ["soup", save("a"), save("b"), "-o", out, "--no-eval", "--push-to", "org/name"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 130
    told = f"interrupted: {out} is complete; geo-merge push {out} org/name continues"
    assert done.stderr.splitlines()[-1] == told


@pytest.mark.slow
def test_a_signal_that_a_library_swallows_still_ends_the_command(
    save: Save, tmp_path: Path
) -> None:
    words = ("slerp", save("a"), save("b"), "-o", tmp_path / "out", "--no-eval", "--quiet")
    code = AT_IMPORT.replace("            os.kill", "            try: os.kill")
    code = code.replace("{then}", "except BaseException: pass")
    done = subprocess.run(
        [sys.executable, "-c", code, "mergekit_geo.commands._merge", "15", *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 143
    assert done.stderr == "terminated: the work had finished\n"


@pytest.mark.parametrize(
    ("ends", "code", "last"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        (">/dev/full", 1, "geo-merge: standard output: No space left on device"),
        ("2>/dev/full", 0, ""),
        ("--json | true", 0, "2 models"),
        ("2>&1 | true", 0, ""),
    ],
)
@pytest.mark.slow
def test_the_output_is_whole_whatever_becomes_of_the_streams(
    save: Save, tmp_path: Path, ends: str, code: int, last: str
) -> None:
    out = tmp_path / "out"
    words = [sys.executable, "-m", "mergekit_geo", "slerp", str(save("a")), str(save("b")),
             "-o", str(out), "--no-eval"]  # fmt: skip
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{shlex.join(words)} {ends}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert (out / "report.json").is_file()
    assert not out.with_name("out.partial").exists()
    assert "Traceback" not in done.stderr
    assert last in done.stderr


@pytest.mark.parametrize("stop", CODES, ids=lambda s: s.name)
@pytest.mark.slow
def test_workers_end_with_the_command(save: Save, tmp_path: Path, stop: signal.Signals) -> None:
    words = [sys.executable, "-m", "mergekit_geo", "barrier", str(save("a")), str(save("b"))]
    process = subprocess.Popen(
        [*words, "--num-processes", "2"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    workers = started(psutil.Process(process.pid), 2)
    process.send_signal(stop)
    _, stderr = process.communicate(timeout=5)
    assert process.returncode == CODES[stop]
    assert psutil.wait_procs(workers, timeout=5)[1] == []
    if stop in WORDS:
        said = f"{WORDS[stop]}: nothing is half-written; the same command continues"
        assert stderr.splitlines() == [said]


def started(launcher: psutil.Process, count: int) -> list[psutil.Process]:
    """The workers, once they load what they measure with."""
    for _ in range(3000):
        found = launcher.children()
        if len(found) == count and all(has_torch(worker) for worker in found):
            return found
        time.sleep(0.01)
    raise AssertionError("they did not start")


def has_torch(process: psutil.Process) -> bool:
    return any("libtorch" in region.path for region in process.memory_maps())


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others(save: Save) -> None:
    words = [sys.executable, "-m", "mergekit_geo", "barrier", str(save("a")), str(save("b"))]
    process = subprocess.Popen([*words, "--num-processes", "2"], stderr=subprocess.PIPE, text=True)
    workers = started(psutil.Process(process.pid), 2)
    workers[0].kill()
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 137
    assert "geo-merge: process 1 of 2 was ended by signal 9" in stderr
    assert psutil.wait_procs(workers, timeout=0)[1] == []


FINISHING = """
import os, signal, sys, time, typer
from mergekit_geo.cli import app, stopping
from mergekit_geo.cli.session import session
from mergekit_geo.interrupt import finishing
from mergekit_geo.specs.panels import Verbosity

def work():
    with session("search", Verbosity()) as current:
        with finishing("the best so far is kept") as asked:
            print("begun", flush=True)
            while not asked.set:
                {step}
        print("asked", flush=True)
        {then}

def run():
    try:
        work()
    except typer.Exit as end:
        return end.exit_code
    return 0

app._run, stopping.GRACE = run, 0.3
app.main()
"""
"""A command that ends early where it is asked."""


class Finishing(subprocess.Popen):  # type: ignore[type-arg]
    """The command, once it has begun."""

    def __init__(self, step: str = "time.sleep(0.01)", then: str = "pass") -> None:
        super().__init__(
            [sys.executable, "-c", FINISHING.format(step=step, then=then)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.until("begun")

    def until(self, word: str) -> None:
        assert self.stdout is not None
        assert self.stdout.readline() == f"{word}\n"

    def ended(self) -> tuple[int, str]:
        _, stderr = self.communicate(timeout=20)
        return self.returncode, stderr


@pytest.mark.parametrize("stop", WORDS, ids=lambda s: s.name)
def test_work_that_is_asked_to_end_early_ends_by_itself_and_with_the_signal_s_code(
    stop: signal.Signals,
) -> None:
    process = Finishing(then="time.sleep(0.8)")
    process.send_signal(stop)
    assert process.ended() == (CODES[stop], f"{WORDS[stop]}: the best so far is kept\n")


@pytest.mark.parametrize("step", ["time.sleep(20)", "pow(3, 10**9)"], ids=["sleeps", "computes"])
def test_a_second_signal_ends_work_at_once(step: str) -> None:
    process = Finishing(f"print('in it', flush=True); {step}")
    process.until("in it")
    begun = time.monotonic()
    while process.poll() is None:  # two that come before the process is scheduled are one
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    said = "interrupted: nothing is half-written; the same command continues\n"
    assert process.ended() == (130, said)
    assert time.monotonic() - begun < 10


def test_a_second_signal_ends_what_is_done_after_the_first() -> None:
    process = Finishing(then="time.sleep(20)")
    process.send_signal(signal.SIGINT)
    process.until("asked")
    process.send_signal(signal.SIGINT)
    assert process.ended()[0] == 130


def test_an_error_after_a_signal_is_told() -> None:
    process = Finishing(then="raise OSError(28, 'No space left on device')")
    process.send_signal(signal.SIGINT)
    assert process.ended() == (1, "geo-merge search: No space left on device\n")


def test_work_that_has_found_nothing_yet_is_stopped_by_the_first_signal() -> None:
    process = Finishing(then="raise KeyboardInterrupt")
    process.send_signal(signal.SIGINT)
    said = "interrupted: nothing is half-written; the same command continues\n"
    assert process.ended() == (130, said)
