"""scripts/check_device.sh: the table of an accelerator beside the CPU, rehearsed on the CPU."""

import os
import subprocess
import sys

import pytest
import torch

from benchmarks import device
from tests.conftest import ROOT


def check_device(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", ROOT / "scripts" / "check_device.sh", *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHON": sys.executable},
    )  # fmt: skip


@pytest.mark.slow
def test_a_rehearsal_names_what_agrees() -> None:
    done = check_device("--device", "cpu", "--small", "--only", "merge")
    assert done.returncode == 0, done.stdout + done.stderr
    for work in ("soup, 3 models", "slerp, 2 models", "karcher mean, 3 models"):
        assert f"| {work} | " in done.stdout
    assert done.stdout.count("agrees") == 3
    assert "WRONG" not in done.stdout


def check_here(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The same without the script; each check is a process of its own."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(sys, "argv", ["device.py", *arguments])
    return device.main()


@pytest.mark.slow
def test_what_failed_is_named_and_the_rest_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only = ("--only", "environment", "environment")
    assert check_here(monkeypatch, "--device", "nonsense", *only) == 1
    said = capsys.readouterr().out
    assert said.count("| environment | nan | 0 | 0.00 | 0.00 |  | WRONG: failed |") == 2
    assert "nonsense" in said


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
def test_without_an_accelerator_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_here(monkeypatch) == 0
    assert "no accelerator here: nothing to check" in capsys.readouterr().out
