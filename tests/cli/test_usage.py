"""Errors of use: what is wrong, and what to write instead, on one line and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mergekit_geo.cli.commands import app
from mergekit_geo.specs.table import COMMANDS

WRONG = {
    "sopu a -o x": "no such command 'sopu'. Did you mean 'soup'? (geo-merge --help)",
    "frobnicate": "no such command 'frobnicate' (geo-merge --help)",
    "ties a b": "no such command 'ties' (it is a merge method: geo-merge merge MODEL... --method "
    "ties --base BASE -o OUT)",
    "--frobnicate": "no such option: --frobnicate (geo-merge --help)",
    "soup a -o x --frobnicate": "no such option: --frobnicate (geo-merge soup --help)",
    "soup a -o x --metod greedy": "no such option: --metod (did you mean --method? geo-merge soup "
    "--help)",
    "soup a --output x": "no such option: --output (did you mean --out? geo-merge soup --help)",
    "soup a -o x --method ties": "--method: 'ties' is not one of 'uniform', 'weighted', 'greedy', "
    "'learned' (it is a merge method: geo-merge merge MODEL... --method ties --base BASE -o OUT)",
    "soup a -o x --method grady": "--method: 'grady' is not one of 'uniform', 'weighted', 'greedy',"
    " 'learned' (did you mean greedy? geo-merge soup --help)",
    "soup a -o x --sharpness 7": "--sharpness: '7' is not one of 'off', 'quick', 'full' (geo-merge "
    "soup --help)",
    "soup": "missing argument 'MODEL...' (geo-merge soup --help)",
    "soup a": "missing option '-o' / '--out' (geo-merge soup --help)",
    "path a b -o x": "missing option '--train-data' (geo-merge path --help)",
    "barrier a b --points": "option '--points' requires an argument (geo-merge barrier --help)",
    "barrier a b --points x": "--points: expected a whole number, found 'x' (geo-merge barrier "
    "--help)",
    "landscape a --range 1 x": "--range: expected a number, found 'x' (geo-merge landscape --help)",
    "slerp a b -o x --t nan": "--t: expected a finite number (geo-merge slerp --help)",
    "run x.yml": "--out: say where to write, or --dry-run (geo-merge run --help)",
    "soup a -o x --json=1": "option '--json' does not take a value (geo-merge soup --help)",
}


@pytest.mark.parametrize("words", WRONG)
def test_one_line_says_what_is_wrong_and_what_to_write(words: str) -> None:
    command, *_ = words.split()
    done = CliRunner().invoke(app, words.split())
    program = f"geo-merge {command}" if command in COMMANDS else "geo-merge"
    assert done.stderr == f"{program}: {WRONG[words]}\n"
    assert (done.exit_code, done.stdout) == (2, "")


SPACED = {
    "--weights 0.5 0.5": "--weights 0.5,0.5",
    "--weights=0.5 -0.5 1": "--weights 0.5,-0.5,1",
    "--weights .5, .3, .2": "--weights .5,.3,.2",
    "--weights 1 0": "--weights 1,0",
}


@pytest.mark.parametrize("words", SPACED)
def test_numbers_with_spaces_between_are_written_with_commas(words: str) -> None:
    done = CliRunner().invoke(app, ["soup", "a", "b", *words.split(), "-o", "out"])
    assert done.exit_code == 2
    assert f"--weights: numbers are separated by commas: {SPACED[words]} " in done.stderr


def test_a_model_may_be_called_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7").mkdir()
    done = CliRunner().invoke(app, ["soup", "--weights", "1", "7", "-o", "out"])
    assert "7: no safetensors" in done.stderr
    done = CliRunner().invoke(app, ["soup", "8", "--weights", "1", "-o", "out"])
    assert "8: no folder" in done.stderr


@pytest.mark.parametrize(
    ("words", "where", "remedy"),
    [
        ("soup a -o x --steps 2.5 --json", "--steps", "geo-merge soup --help"),
        ("soup a -o x --jsn --json", "", "did you mean --json? geo-merge soup --help"),
        ("--json", "", "geo-merge --help"),
        ("sopu --json", "", "geo-merge --help"),
    ],
)
def test_a_wrong_use_is_a_json_document_where_one_is_asked_for(
    words: str, where: str, remedy: str
) -> None:
    done = CliRunner().invoke(app, words.split())
    told = json.loads(done.stdout)
    assert done.exit_code == 2
    assert (told["schema_version"], told["status"]) == (1, "error")
    assert (told["error"]["type"], told["error"]["where"]) == ("ArgumentError", where)
    assert told["error"]["remedy"] == remedy
    assert told["error"]["message"] in done.stderr
