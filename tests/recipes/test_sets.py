"""An objective of several sets: what it says, what the call says before it, what it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import mergekit_geo as geo
from mergekit_geo.cli.parsing import parse
from mergekit_geo.config.data import EvalData, sets_of
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.errors import ArgumentError, GeoError, RecipeError
from mergekit_geo.recipes.data import held_out, read_as, spoken_over
from mergekit_geo.recipes.reading import read_recipe
from mergekit_geo.recipes.run import run
from mergekit_geo.specs.merges import RunSpec
from mergekit_geo.views.plan import view

SETS = [{"name": "code", "data": "c.jsonl", "weight": 2, "seq_len": 32}, "runs/chat.jsonl"]
MERGE = {"merge_method": "linear", "models": [{"model": "a"}], "parameters": {"weight": 1}}


def objective(**said: Any) -> dict[str, Any]:
    return {**MERGE, "objective": said}


def measured(said: dict[str, Any], *words: str) -> list[tuple[str, float, EvalData]]:
    """Name, weight and settings of each set that a command line measures on."""
    call = parse(RunSpec, ["r.yml", "-o", "out", *words])
    spoken = spoken_over(read_recipe(said), call.data, call.given, call.seed)
    found = sets_of(held_out(spoken, call.data))
    return [(one.name, one.weight, one.data) for one in found]  # type: ignore[misc]


def test_sets_have_options_of_their_own_and_shared_ones() -> None:
    assert measured(objective(sets=SETS, seq_len=64, loss_on="all")) == [
        ("code", 2.0, EvalData("c.jsonl", seq_len=32, loss_on="all", weight=2.0)),
        ("chat", 1.0, EvalData("runs/chat.jsonl", seq_len=64, loss_on="all")),
    ]


def test_the_call_goes_before_every_set() -> None:
    for words in (["--seq-len=128"], ["--seq-len=128", "--loss-on=assistant"]):
        found = measured(objective(sets=SETS, seq_len=64, loss_on="all"), *words)
        assert [data.seq_len for *_, data in found] == [128, 128]
        assert {data.loss_on for *_, data in found} == {"assistant" if words[1:] else "all"}


def test_the_data_of_the_call_goes_before_the_recipes() -> None:
    said = {"sets": SETS, "seq_len": 64}
    assert measured(objective(**said), "--data=x.jsonl") == [("x", 1.0, EvalData("x.jsonl"))]
    for one in (said, {"data": "c.jsonl"}):
        found = measured(objective(**one), "--data=x.jsonl", "--data=own=y.jsonl")
        assert [name for name, *_ in found] == ["x", "own"]


def test_training_data_are_read_as_the_first_set_is() -> None:
    found = read_as(read_recipe(objective(sets=SETS, loss_on="all")), EvalData())
    assert (found.seq_len, found.loss_on) == (32, "all")


def test_the_recipe_says_it_again() -> None:
    said = objective(sets=SETS, seq_len=64, aim="worst", keep=["chat"])
    recipe = read_recipe(said)
    again = recipe.model_dump(exclude_none=True, exclude_defaults=True)
    assert read_recipe(yaml.safe_load(yaml.safe_dump(again))) == recipe


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{}", "line 3: objective: an objective has data or sets"),
        ("{data: x, sets: [y]}", "line 3: objective: an objective has data or sets"),
        ("{sets: []}", "line 3: objective: no evaluation sets"),
        ("{sets: [x, x]}", "line 3: objective: two sets are called 'x'"),
        ("{sets: [x], keep: [y]}", r"objective: no set 'y' to keep \(the sets are x\)"),
        ("{sets: [{data: x, weight: 0}]}", "objective: the weights of all sets sum to zero"),
        ("\n  sets:\n  - data: x\n    seq_len: 1", r"line 6: objective.sets\[0\].seq_len: input"),
        (
            "\n  sets:\n  - x\n  - data: x\n    max_example: 9",
            r"line 7: unknown key objective.sets\[1\].max_example \(did you mean max_examples\?",
        ),
    ],
)
def test_sets_that_cannot_be_meant(text: str, match: str) -> None:
    models = "models: [{model: a, parameters: {weight: 1}}]"
    with pytest.raises(RecipeError, match=match):
        read_recipe(f"merge_method: linear\n{models}\nobjective: {text}\n")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two files of other documents, a set each."""
    folder = tmp_path_factory.mktemp("texts")
    words = [" ".join(document.text.split()) for document in builtin_documents("train")[:48]]
    for name, at in (("code", 0), ("chat", 200)):
        (folder / f"{name}.txt").write_text("\n\n".join(text[at : at + 200] for text in words))
    return {name: str(folder / f"{name}.txt") for name in ("code", "chat")}


def recipe_of(small: Path, texts: dict[str, str], **said: Any) -> dict[str, Any]:
    models = [{"model": str(small / name), "parameters": {"weight": 1}} for name in "ab"]
    sets = [{"name": name, "data": source} for name, source in texts.items()]
    return {
        "merge_method": "linear", "models": models, "sharpness": "off",
        "objective": {"sets": sets, "seq_len": 16, "max_examples": 40, **said},
    }  # fmt: skip


def test_a_recipe_is_measured_on_its_sets(
    small: Path, texts: dict[str, str], tmp_path: Path
) -> None:
    said = recipe_of(small, texts)
    found = run(said, tmp_path / "out", output=geo.OutputConfig(fsync=False)).report
    assert list(found.result.sets) == ["code", "chat"]  # type: ignore[union-attr]
    assert found.provenance is not None
    assert "--no-eval" not in found.provenance.command
    (missing,) = [item for item in found.not_measured if item.what == "sharpness"]
    assert f"--data=code={texts['code']}" in missing.command
    again = yaml.safe_load((tmp_path / "out" / "recipe.yml").read_text())
    assert read_recipe(again) == read_recipe(said)


def test_what_no_flag_says_of_sets_is_in_no_command(
    small: Path, texts: dict[str, str], tmp_path: Path
) -> None:
    said = recipe_of(small, texts)
    said["objective"]["sets"][0]["seq_len"] = 8
    found = run(said, tmp_path / "out", output=geo.OutputConfig(fsync=False)).report
    (missing,) = [item for item in found.not_measured if item.what == "sharpness"]
    assert missing.command == ""


def test_a_dry_run_names_the_sets(small: Path, texts: dict[str, str]) -> None:
    found = run(recipe_of(small, texts), dry_run=True)
    assert found.measurements.sets == texts
    shown = str(view(found.report, found.measurements))
    assert f"measured on code ({texts['code']}), chat (" in shown
    alone = recipe_of(small, texts) | {"objective": {"data": texts["code"]}}
    assert "sets" not in run(alone, dry_run=True).measurements.model_dump()


@pytest.mark.parametrize("dry_run", [False, True])
def test_gates_and_aims_are_of_sets_of_the_recipe(
    small: Path, texts: dict[str, str], tmp_path: Path, dry_run: bool
) -> None:
    said, out = recipe_of(small, texts), tmp_path / "out"
    output = geo.OutputConfig(require="not-worse:cod")
    with pytest.raises(ArgumentError, match=r"no set 'cod' to require \(did you mean code\?"):
        run(said, out, output=output, dry_run=dry_run)
    models = [{"model": str(small / name)} for name in "ab"]
    chosen = {**said, "merge_method": "greedy", "models": models}
    if not dry_run:
        with pytest.raises(GeoError, match="no set 'prose' to keep"):
            run(chosen, out, aiming=geo.AimConfig(keep=["prose"]))
        with pytest.raises(ArgumentError, match="nothing is chosen by loss"):
            run(said, out, aiming=geo.AimConfig("worst"))
    assert not out.exists()
