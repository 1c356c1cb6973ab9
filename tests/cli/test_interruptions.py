"""Killed, interrupted or out of space: nothing is half-written, and the same command goes on."""

import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.conftest import Run

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


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
def test_stopped_run_goes_on_to_the_same_bytes(
    models: list[Path], whole: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    out = tmp_path / "out"
    code, stderr = stop_in_the_middle(models, out, stop)
    assert not out.exists()
    assert code == (130 if stop == signal.SIGINT else -stop)
    if stop == signal.SIGINT:
        assert "interrupted: nothing is half-written, and the same command goes on" in stderr
    subprocess.run(command(models, out), check=True, capture_output=True)
    report = (out / "report.json").read_text()
    assert '"resumed: ' in report
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in whole.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_changed_recipe_starts_over_and_says_so(models: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    stop_in_the_middle(models, out, signal.SIGKILL)
    done = subprocess.run(
        command(models, out, "--t", "0.25"), check=True, capture_output=True, text=True
    )
    assert "started over" in done.stderr.replace("\n", " ")
    assert '"resumed: ' not in (out / "report.json").read_text()


def test_changed_input_starts_over_and_says_so(models: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    stop_in_the_middle(models, out, signal.SIGKILL)
    (models[1] / "model.safetensors").touch()
    done = subprocess.run(command(models, out), check=True, capture_output=True, text=True)
    assert "started over" in done.stderr.replace("\n", " ")


def test_full_disk_keeps_inputs_and_the_old_output(
    models: list[Path], whole: Path, geo_merge: Run
) -> None:
    before = {p: p.stat().st_mtime_ns for p in [*whole.iterdir(), *models[0].iterdir()]}
    done = geo_merge(
        *command(models, whole, "--overwrite")[3:],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**8, 10**8)),
    )
    assert done.returncode == 1
    assert "the output needs 0.16 GB" in done.stderr or "needs 157." in done.stderr
    assert "free some space" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert not whole.with_name("out.partial").exists()
