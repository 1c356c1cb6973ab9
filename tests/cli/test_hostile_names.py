"""Names that would move the cursor, turn words around or draw links: shown inert everywhere."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.cli.app import app
from mergekit_geo.cli.progress import _Bars
from mergekit_geo.printable import printable, printable_json
from mergekit_geo.views.console import InertConsole
from tests.conftest import Save
from tests.models import random_state

ODD = "\x1b[31m\x07\x9b2J\n\u202egnp.\u2066x\u200b[bold red]\u2028<b>!|"
"""Colour, bell, C1, a line break, directions, no width, markup, a separator, HTML, a bar."""

INERT = r"\x1b[31m\x07\x9b2J\n\u202egnp.\u2066x\u200b[bold red]\u2028<b>!|"


def shown(*arguments: object) -> tuple[int, str]:
    """Exit code and all that a command prints, which no terminal reads anything into."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    said = done.stdout + done.stderr
    assert all(c.isprintable() or c == "\n" for c in said), ascii(said)
    assert "this should not happen" not in said
    return done.exit_code, said


def flat(said: str) -> str:
    """Without the breaks of narrow columns."""
    return "".join(said.split())


@pytest.fixture
def pair(save: Save, tmp_path: Path) -> tuple[Path, Path]:
    """Two models that can be merged, the second and one of the tensors called oddly."""
    tensors = {**random_state("a"), f"model.layers.0.{ODD}": torch.ones(2)}
    a, b = save("a", tensors), tmp_path / f"b{ODD}"
    shutil.copytree(a, b)
    return a, b


def test_check_of_an_odd_name(pair: tuple[Path, Path]) -> None:
    code, said = shown("check", *pair)
    assert code == 0
    assert INERT in said


def test_problems_with_odd_tensors_are_a_line_each(pair: tuple[Path, Path]) -> None:
    a, b = pair
    save_file(random_state("b"), b / "model.safetensors")
    code, said = shown("check", a, b)
    assert code == 1
    assert sum(line.startswith("problem: ") for line in said.splitlines()) == 1
    assert f"model.layers.0.{INERT}" in said


def test_errors_hold_an_odd_name_in_their_line(pair: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = pair
    (b / "config.json").write_text("{")
    code, said = shown("soup", a, b, "-o", tmp_path / "out", "--no-eval")
    assert code == 1
    assert len(said.splitlines()) == 1
    assert f"b{INERT}" in said
    (b / "model.safetensors").unlink()
    (b / "config.json").unlink()
    assert len(shown("soup", a, b, "-o", tmp_path / "out", "--no-eval")[1].splitlines()) == 1


def test_the_problems_of_a_merge_are_a_line_each(pair: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = pair
    save_file(random_state("b"), b / "model.safetensors")
    _, said = shown("soup", a, b, "-o", tmp_path / "out", "--no-eval")
    assert len(said.splitlines()) == 2
    assert f"\n  - model.layers.0.{INERT} is in" in said


def test_a_plan_of_odd_names(pair: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    models = [{"model": str(model)} for model in pair]
    recipe.write_text(yaml.safe_dump({"merge_method": "linear", "models": models}))
    code, said = shown("run", recipe, "--dry-run")
    assert code == 0
    assert r"\x1b[31m" in flat(said)  # the rest of the column's head is below, between the others


def test_a_soup_its_card_and_its_page(pair: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / f"out{ODD}"
    code, said = shown("soup", *pair, "-o", out, "--no-eval", "--no-fsync")
    assert code == 0
    assert flat(f"written to {tmp_path}/out{INERT}") in flat(said)
    for name in ("README.md", "report.html"):
        page = (out / name).read_text("utf-8")
        page = re.sub("<script.*?</script>|```.*?```", "", page, flags=re.DOTALL)
        assert all(c.isprintable() or c == "\n" for c in page), name
        assert "<b>" not in page
    card = (out / "README.md").read_text("utf-8").split("---\n")
    assert yaml.safe_load(card[1])["tags"][0] == "merge"
    report = geo.read_report(out)
    assert report.models[1].name == str(pair[1])  # the report holds names as they are


def test_json_on_a_terminal_is_inert_and_means_the_same(pair: tuple[Path, Path]) -> None:
    code, said = shown("check", *pair, "--json")
    assert code == 0
    assert json.loads(said)["models"][1]["name"] == str(pair[1])


def test_json_of_an_error_is_inert(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["check", str(tmp_path / ODD), "x", "--json"])
    assert all(c.isprintable() or c == "\n" for c in done.stdout)
    assert json.loads(done.stdout)["error"]["where"] == str(tmp_path / ODD)


def test_progress_is_inert(capsys: pytest.CaptureFixture[str]) -> None:
    bars = _Bars(InertConsole(stderr=True, force_terminal=True, width=200))
    bars.say(ODD)
    bars.phase(ODD, 2)
    bars.advance(1)
    bars.close()
    said = capsys.readouterr().err
    assert INERT in said
    assert not set(said) & set("\x07\x9b\u202e\u2066\u200b\u2028")
    assert "[31m" not in said.replace(INERT, "")


@pytest.mark.parametrize("text", ["é λ 漢 🙂", "a b", ""])
def test_what_can_be_read_stays(text: str) -> None:
    assert printable(text) == text
    assert printable_json(text) == text


@pytest.mark.parametrize("code", [0, 7, 10, 27, 0x7F, 0x85, 0x9B, 0x200B, 0x200F, 0x202E, 0x2028,
                                  0x2066, 0xFEFF, 0xDC80, 0xE0001])  # fmt: skip
def test_what_cannot_be_seen_is_written_out(code: int) -> None:
    assert printable(f"a{chr(code)}b") == f"a{ascii(chr(code))[1:-1]}b"
    if code != 10:
        assert json.loads(printable_json(f'"{chr(code)}"'), strict=False) == chr(code)
