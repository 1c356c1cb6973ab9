"""Completion of commands, options and choices, by the protocol that shells speak."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mergekit_geo.cli.commands import app
from mergekit_geo.specs.panels import options_of
from mergekit_geo.specs.table import COMMANDS, spec_of

INSTRUCTION = "_GEO_MERGE_COMPLETE"


def completed(line: str) -> list[str]:
    """What bash is offered for the last word of a line."""
    words = line.split(" ")
    told = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), INSTRUCTION: "complete_bash"}
    done = CliRunner().invoke(app, [], env=told, prog_name="geo-merge")
    assert done.exit_code == 0, done.stderr
    return done.stdout.split()


def test_commands() -> None:
    assert completed("geo-merge ") == list(COMMANDS)
    assert completed("geo-merge s") == ["soup", "slerp", "search", "sharpness"]
    assert "--version" in completed("geo-merge --")


@pytest.mark.parametrize("name", COMMANDS)
def test_options_and_choices_of_a_command(name: str) -> None:
    found = options_of(spec_of(name))
    offered = completed(f"geo-merge {name} --")
    assert {one.option.flag for one in found} - {""} <= set(offered)
    for one in found:
        if one.option.choices:
            assert completed(f"geo-merge {name} {one.option.flag} ") == list(one.option.choices)


def test_models_are_completed_as_files() -> None:
    assert completed("geo-merge soup mod") == []
    assert completed("geo-merge soup a b --data held") == []


def test_zsh_and_fish_are_told_what_an_option_does_on_one_line() -> None:
    line = {"_TYPER_COMPLETE_ARGS": "geo-merge soup --", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    fish, zsh = (
        CliRunner().invoke(
            app, [], env={**line, INSTRUCTION: f"complete_{shell}"}, prog_name="geo-merge"
        ).stdout
        for shell in ("fish", "zsh")
    )  # fmt: skip
    options = {one.option.flag for one in options_of(spec_of("soup"))} - {""}
    rows = dict(row.split("\t") for row in fish.splitlines())
    assert options <= set(rows)
    assert all(0 < len(text) <= 50 for text in rows.values())
    assert rows["--out"] == "Output folder."
    assert options <= set(re.findall(r'"(--[a-z-]+)":"[^"\n]+"', zsh))


@pytest.fixture
def bash(tmp_path: Path) -> Callable[[str], str]:
    """What a script of bash prints, with `geo-merge` at hand and a home of its own."""
    place = Path(sys.executable).parent
    if shutil.which("bash") is None or not (place / "geo-merge").exists():
        pytest.skip("there is no bash here, or geo-merge is not installed beside this Python")
    environment = {
        **os.environ, "PATH": f"{place}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip

    def run(script: str) -> str:
        words = ["bash", "--norc", "-c", script]
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        return done.stdout

    return run


def test_bash_completes_once_it_is_installed(tmp_path: Path, bash: Callable[[str], str]) -> None:
    told = bash("geo-merge --install-completion; true")
    assert str(tmp_path / ".bash_completions" / "geo-merge.sh") in told
    said = bash(
        f"source {tmp_path}/.bashrc; COMP_WORDS=(geo-merge soup a b --meth); COMP_CWORD=4\n"
        '_geo_merge_completion geo-merge; echo "${COMPREPLY[@]}"; complete -p geo-merge\n'
    )
    complete = "complete -o default -F _geo_merge_completion geo-merge"
    assert said.splitlines() == ["--method", complete]
