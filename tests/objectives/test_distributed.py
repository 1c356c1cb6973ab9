"""The same numbers in the same order, however many processes share the work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mergekit_geo as geo
from mergekit_geo.errors import ArgumentError


def barrier(family: Path, tmp_path: Path, processes: int) -> dict[str, object]:
    words = ["barrier", str(family / "a"), str(family / "b"), "--points", "3", "--json"]
    words += ["--max-examples", "150", "--num-processes", str(processes)]
    done = subprocess.run(
        [sys.executable, "-m", "mergekit_geo", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / str(processes))},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)["result"]
    return found


def test_two_gloo_processes_give_the_numbers_of_one(family: Path, tmp_path: Path) -> None:
    assert barrier(family, tmp_path, 2) == barrier(family, tmp_path, 1)


def test_a_merge_is_made_by_one_process(family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mergekit_geo.workflows.merge.world", lambda: (0, 2))
    with pytest.raises(ArgumentError, match="a merge is made by one process"):
        geo.soup([family / "a", family / "b"])
