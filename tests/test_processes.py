"""The same numbers in the same order, however many processes share the work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.cli.app import app
from mergekit_geo.errors import ArgumentError


@pytest.mark.slow
def test_two_gloo_processes_give_the_numbers_of_one(family: Path, tmp_path: Path) -> None:
    words = ["barrier", str(family / "a"), str(family / "b"), "--points", "3", "--json"]
    words += ["--max-examples", "150", "--seq-len", "32"]
    marker = tmp_path / "marker"
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(f"open({str(marker)!r}, 'w')")
    two = subprocess.run(  # as the installed command: without its folder on the path
        [sys.executable, "-P", "-m", "mergekit_geo", *words, "--num-processes", "2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "two")},
    )
    assert two.returncode == 0, two.stderr
    assert not marker.exists(), "the working folder was imported from"
    one = CliRunner().invoke(app, words, env={"XDG_CACHE_HOME": str(tmp_path / "one")})
    assert json.loads(two.stdout)["result"] == json.loads(one.stdout)["result"]


def test_processes_do_not_share_a_gpu() -> None:
    from mergekit_geo.collectives import check_gpus

    check_gpus(2, 2)
    with pytest.raises(ArgumentError, match="2 processes on this machine, and 1 GPU: each needs"):
        check_gpus(2, 1)


def test_a_merge_is_made_by_one_process(family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mergekit_geo.commands._merge.world", lambda: (0, 2))
    with pytest.raises(ArgumentError, match="a merge is made by one process"):
        geo.soup([family / "a", family / "b"])
