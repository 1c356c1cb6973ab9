"""Members that a recipe trains first: what they are, what a rerun takes up, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.cli.app import app
from mergekit_geo.errors import (
    DataError,
    IncompatibleError,
    NotFoundError,
    OutputError,
    OutputExistsError,
)
from mergekit_geo.progress import Silent
from mergekit_geo.recipes.dry_run import dry_run
from mergekit_geo.recipes.reading import read_recipe

FAST = geo.OutputConfig(fsync=False)
STEPS = 4


def recipe_of(small: Path, text: Path, **more: Any) -> dict[str, Any]:
    """The mean of two members."""
    flat = {
        "name": "flat", "model": str(small / "base"), "train_data": str(text), "members": 2,
        "steps": STEPS, "train_batch_size": 4, "lr": 1e-3, "save_every": 1, "seq_len": 16,
    }  # fmt: skip
    return {
        "merge_method": "linear",
        "finetune": [flat | more],
        "models": [{"model": "flat-0"}, {"model": "flat-1"}],
    }


def run(recipe: Any, out: Path | None = None, **more: Any) -> geo.Result:
    return geo.run(recipe, out, **{"data": None, "output": FAST, **more})


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(first[n].equal(second[n]) for n in first)


class Told(Silent):
    """Keeps what was said, and breaks off after so many steps of training."""

    def __init__(self, steps: int = 1000) -> None:
        self.said: list[str] = []
        self.title, self.left = "", steps

    def say(self, text: str) -> None:
        self.said.append(text)

    def phase(self, title: str, total: int) -> None:
        self.title = title

    def advance(self, count: int) -> None:
        if self.title == "training" and count:
            self.left -= count
            if not self.left:
                raise KeyboardInterrupt


@pytest.fixture(scope="module")
def made(small: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUT, with OUT.members beside it."""
    out = tmp_path_factory.mktemp("made") / "out"
    run(recipe_of(small, text), out)
    return out


@pytest.fixture
def members(made: Path) -> Path:
    return made.with_name("out.members")


def test_members_are_what_finetune_trains(
    made: Path, members: Path, small: Path, text: Path, tmp_path: Path
) -> None:
    geo.finetune(
        small / "base", tmp_path / "b", seed=1, data=None, sharpness="off", output=FAST,
        train_data=geo.EvalData(str(text), split="train", seq_len=16),
        training=geo.TrainingConfig(steps=STEPS, batch_size=4, learning_rate=1e-3),
    )  # fmt: skip
    assert same(weights(members / "flat-1"), weights(tmp_path / "b"))
    a, b = weights(members / "flat-0"), weights(members / "flat-1")
    assert not same(a, b)
    for name, tensor in weights(made).items():
        torch.testing.assert_close(tensor, (a[name] + b[name]) / 2)


def test_the_report_says_how_members_came_about(made: Path, members: Path, small: Path) -> None:
    report = geo.read_report(made)
    entries = report.settings["members"]
    assert [entry["seed"] for entry in entries] == [0, 1]
    assert entries[0]["folder"] == str(members / "flat-0")
    assert (entries[0]["model"], entries[0]["rho"]) == (str(small / "base"), 0.05)
    assert (entries[0]["steps"], entries[0]["passes"]) == (STEPS, 2 * STEPS)
    assert [model.name for model in report.models] == [str(members / f"flat-{i}") for i in (0, 1)]
    own = geo.read_report(members / "flat-0")
    assert any("measured as a parent of the merge" in item.why for item in own.not_measured)


def test_the_copy_of_the_recipe_makes_the_same_merge(made: Path, tmp_path: Path) -> None:
    run(made / "recipe.yml", tmp_path / "again")
    assert (tmp_path / "again.members" / "flat-1").is_dir()
    assert same(weights(tmp_path / "again"), weights(made))


def test_members_that_are_there_are_taken_up(
    made: Path, members: Path, small: Path, text: Path
) -> None:
    before = (members / "flat-0" / "model.safetensors").stat().st_mtime_ns
    told = Told(steps=1)
    overwrite = geo.OutputConfig(fsync=False, overwrite=True)
    run(recipe_of(small, text), made, output=overwrite, progress=told)
    assert (members / "flat-0" / "model.safetensors").stat().st_mtime_ns == before
    assert f"flat-1 is trained already: {members / 'flat-1'}" in told.said


def test_members_trained_otherwise_are_refused_or_trained_anew(
    small: Path, text: Path, tmp_path: Path
) -> None:
    out, place = tmp_path / "out", tmp_path / "out.members"
    run(recipe_of(small, text, steps=1), members_in=place)
    first = weights(place / "flat-0")
    other = recipe_of(small, text, steps=1, rho=0.2)
    said = (
        r"flat-0: a member that was trained otherwise is there: rho was 0\.05, and is 0\.2 \(--ov"
    )
    for refused in (run, dry_run):
        with pytest.raises(OutputExistsError, match=said):
            refused(other, out)
    run(other, out, output=geo.OutputConfig(overwrite=True, fsync=False))
    assert not same(weights(place / "flat-0"), first)


def test_members_may_not_lie_in_the_output(small: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="the output would touch the input"):
        run(recipe_of(small, text, steps=1), out, members_in=out / "members")


def test_an_interrupted_training_goes_on(
    made: Path, small: Path, text: Path, tmp_path: Path
) -> None:
    recipe, out = recipe_of(small, text), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(recipe, out, progress=Told(steps=STEPS + 3))
    assert not out.exists()
    unfinished = dry_run(recipe, out).measurements.members
    assert [member.state for member in unfinished] == ["trained", "unfinished"]
    told = Told()
    run(recipe, out, progress=told)
    assert any(line.startswith("flat-0 is trained already") for line in told.said)
    assert f"resumed at step 2 of {STEPS}" in told.said
    assert same(weights(out), weights(made))


def test_an_unfinished_training_of_another_member_is_refused(
    small: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(recipe_of(small, text), out, progress=Told(steps=2))
    other = recipe_of(small, text, steps=1)
    with pytest.raises(OutputExistsError, match=r"unfinished training of another .*is 1 .--overw"):
        run(other, out)
    told = Told()
    run(other, out, progress=told, output=geo.OutputConfig(overwrite=True, fsync=False))
    assert not any(line.startswith("resumed") for line in told.said)


def test_in_memory_members_are_gone_afterwards(
    made: Path, small: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    found = run(recipe_of(small, text))
    assert found.state is not None
    assert same(found.state, weights(made))
    assert not any(path.suffix == ".members" for path in tmp_path.iterdir())
    assert [model.name for model in found.report.models] == ["flat-0", "flat-1"]
    assert found.report.settings["members"][0]["folder"] is None


def test_nothing_is_trained_where_the_merge_cannot_be(
    small: Path, text: Path, tmp_path: Path
) -> None:
    recipe, out = recipe_of(small, text), tmp_path / "out"
    told = Told(steps=1)
    out.mkdir()
    (out / "precious").mkdir()
    with pytest.raises(OutputExistsError, match="the output exists"):
        run(recipe, out, progress=told)
    shutil.rmtree(out)
    other = {"merge_method": "linear", "models": [*recipe["models"], {"model": "odd"}]}
    with pytest.raises(IncompatibleError, match="the models cannot be merged"):
        run(recipe | other, out, models={"odd": {"w": torch.ones(1)}}, progress=told)
    with pytest.raises(DataError, match=r"finetune: flat: .*nix\.txt: no such file"):
        run(recipe_of(small, text, train_data="nix.txt"), out, progress=told)
    with pytest.raises(NotFoundError, match=r"no folder .*nix, and not a Hub id"):
        run(recipe_of(small, text, model="nix"), out, progress=told)
    with pytest.raises(DataError, match=r"held\.txt: no such file"):
        run(recipe | {"objective": {"data": "held.txt"}}, out, data=geo.EvalData(), progress=told)
    assert list(tmp_path.iterdir()) == []


def test_held_out_documents_among_the_training_data_are_told(
    small: Path, text: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(small, text, steps=1) | {
        "objective": {"data": str(text), "seq_len": 16}, "sharpness": "off",
    }  # fmt: skip
    found = run(recipe, data=geo.EvalData())
    said = "flat-0: 12 held-out documents are among the training data: their losses say little"
    assert said in found.report.warnings


def test_training_data_are_read_as_the_objective_is(small: Path, tmp_path: Path) -> None:
    rows = [{"note": "a b c d e f g h", "text": ""} for _ in range(8)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = recipe_of(small, tmp_path / "x.jsonl", epochs=1, steps=None)
    objective = {"data": "held_out.jsonl", "text_column": "note"}
    (row, _) = dry_run(recipe | {"objective": objective}).measurements.members
    assert (row.examples, row.steps) == (8, 2)
    own = recipe_of(small, tmp_path / "x.jsonl", text_column="none")
    with pytest.raises(DataError, match=r"finetune: flat: .*none"):
        dry_run(own | {"objective": objective})


def test_the_copy_has_the_commit_of_what_was_trained(
    small: Path, text: Path, tmp_path: Path
) -> None:
    base = open_folder(small / "base", "org/base", "b" * 40)
    recipe = recipe_of(small, text, steps=1, model="org/base")
    found = run(recipe, tmp_path / "out", models={"org/base": base})
    kept = read_recipe(tmp_path / "out" / "recipe.yml")
    assert kept.finetune[0].model == f"org/base@{'b' * 40}"
    assert found.report.settings["members"][0]["model"] == f"org/base@{'b' * 40}"


def test_the_command_plans_and_trains(small: Path, text: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "r.yml", tmp_path / "out"
    path.write_text(yaml.safe_dump(recipe_of(small, text, steps=1)))
    invoke = CliRunner().invoke
    plan = invoke(app, ["run", str(path), "-o", str(out), "--dry-run", "--json"])
    assert plan.exit_code == 0, plan.stderr
    (first, _) = json.loads(plan.stdout)["result"]["members"]
    base = sum(t.nbytes for t in weights(small / "base").values())
    assert first["disk"] == base + 2 * 3 * base
    assert (first["state"], first["seed"], first["steps"]) == ("to be trained", 0, 1)
    plan = invoke(app, ["run", str(path), "-o", str(out), "--dry-run"]).stdout
    assert {"trained", "first", "rho"} <= set(plan.split())
    assert list(tmp_path.iterdir()) == [path]
    flags = ["--no-eval", "--no-fsync", "--members-in", str(tmp_path / "m")]
    done = invoke(app, ["run", str(path), "-o", str(out), *flags])
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "m" / "flat-1" / "finetune.json").is_file()
