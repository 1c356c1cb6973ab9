"""`geo.merge` and `geo-merge merge`: every method of the table from Python and from the shell."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.cli.app import app
from mergekit_geo.errors import ArgumentError
from mergekit_geo.merging.methods import METHODS
from tests.conftest import Save
from tests.models import random_state

NAMES = [name for name, method in METHODS.items() if not (method.by_loss or method.needs)]
STATES = {name: random_state(seed) for seed, name in enumerate("abc")}


def recipe_of(method: str, names: str, base: str | None) -> dict[str, object]:
    """The same merge as mergekit writes it, with every weight 1 and t at 0.5."""
    needs = {one.name: one.default for one in METHODS[method].parameters if one.stated}
    models = [{"model": name, "parameters": needs} for name in names]
    found: dict[str, object] = {"merge_method": method, "models": models}
    if "t" in needs:
        found |= {"parameters": needs, "models": [{"model": name} for name in names]}
    return found | ({"base_model": base} if base else {})


@pytest.mark.parametrize("method", NAMES)
def test_a_call_and_a_recipe_merge_the_same(method: str) -> None:
    found = METHODS[method]
    base = "c" if found.base.value == "a base" else None
    names = "a" if found.most == 1 and found.base.value != "two models" else "ab"
    called = geo.merge(
        [STATES[name] for name in names], method=method, base=base and STATES[base], data=None
    )
    recipe = recipe_of(method, names, base or ("a" if found.base.value == "two models" else None))
    followed = geo.run(recipe, models=STATES, data=None)
    assert called.state is not None
    assert followed.state is not None
    for name, tensor in called.state.items():
        assert torch.equal(tensor, followed.state[name]), name


def test_ties_from_the_shell(save: Save, tmp_path: Path) -> None:
    folders = [str(save(name, STATES[name])) for name in "abc"]
    words = ["merge", *folders[:2], "--base", folders[2], "-o", str(tmp_path / "out"), "--no-eval"]
    words += ["--method", "ties", "--density", ".5,.25", "--weights", "1", "--lambda", ".7"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    expected = geo.merge(
        [STATES["a"], STATES["b"]], method="ties", base=STATES["c"], density=[0.5, 0.25],
        weights=1, lambda_=0.7, data=None,
    ).state  # fmt: skip
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert expected is not None
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    settings = geo.read_report(tmp_path / "out").settings
    assert settings["density"] == [0.5, 0.25]
    assert (settings["method"], settings["lambda_"]) == ("ties", 0.7)


def test_the_command_in_the_card_makes_the_same(save: Save, tmp_path: Path) -> None:
    folders = [str(save(name, STATES[name])) for name in "abc"]
    found = geo.merge(folders[:2], tmp_path / "out", method="dare_ties", base=folders[2], data=None)
    assert found.report.provenance is not None
    words = found.report.provenance.command.split()[1:]
    words[words.index("-o") + 1] = str(tmp_path / "again")
    assert CliRunner().invoke(app, words).exit_code == 0
    first, again = (tmp_path / name / "model.safetensors" for name in ("out", "again"))
    assert first.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(
    "words", [["ties", "a"], ["soup", "a", "b", "-o", "c", "--method", "ties"]]
)
def test_methods_are_told_where_they_are(words: list[str]) -> None:
    done = CliRunner().invoke(app, words, env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert "geo-merge merge MODEL... --method ties" in done.output


def test_help_lists_methods_with_formula_and_source() -> None:
    shown = " ".join(
        CliRunner().invoke(app, ["merge", "--help"], env={"COLUMNS": "200"}).output.split()
    )
    for name in NAMES:
        assert f"{name} {METHODS[name].formula.split()[0]}" in shown, name
    assert "Yadav 2023" in shown


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"method": "tie"}, "method 'tie': expected one of linear, slerp"),
        ({"method": "ties"}, "base"),
        ({"method": "linear", "density": 0.5}, "density"),
        ({"method": "ties", "base": STATES["c"], "density": [0.5]}, "density"),
        ({"method": "ties", "base": STATES["c"], "density": 2.0}, "density must lie in"),
        ({"method": "greedy"}, "method 'greedy': expected one of"),
    ],
)
def test_invalid_merges(settings: dict[str, object], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        geo.merge([STATES["a"], STATES["b"]], data=None, **settings)  # type: ignore[arg-type]


def test_no_models() -> None:
    with pytest.raises(ArgumentError, match="no models to merge"):
        geo.merge([], data=None)
