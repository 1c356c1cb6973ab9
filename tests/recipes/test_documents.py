"""Several recipes in one file, against merges that are made one by one, by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.cli.app import app
from mergekit_geo.errors import (
    DiskFullError,
    IncompatibleError,
    NotFoundError,
    OutputError,
    RecipeError,
)
from mergekit_geo.files.user_cache import cache_folder
from mergekit_geo.progress import Silent
from mergekit_geo.recipes import stage_store
from mergekit_geo.recipes.documents import read_all
from mergekit_geo.recipes.dry_run import dry_run
from tests.checkpoints.adapter_models import make_adapter
from tests.conftest import LLAMA, Save
from tests.models import random_state

FAST = geo.OutputConfig(fsync=False)
WEIGHTS = "model.safetensors"

Recipe = dict[str, Any]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base, a, b, c: a few tensors each."""
    folder = tmp_path_factory.mktemp("few")
    for name in ("base", "a", "b", "c"):
        (folder / name).mkdir()
        save_file(random_state(name), folder / name / WEIGHTS, {"format": "pt"})
        (folder / name / "config.json").write_text(json.dumps(LLAMA))
    return folder


class Told(Silent):
    """Keeps what was said, and breaks off after so many elements of merging."""

    def __init__(self, elements: float = float("inf")) -> None:
        self.said: list[str] = []
        self.title, self.left = "", elements

    def say(self, text: str) -> None:
        self.said.append(text)

    def phase(self, title: str, total: int) -> None:
        self.title = title

    def advance(self, count: int) -> None:
        self.left -= count * (self.title == "merging")
        if self.left < 0:
            raise KeyboardInterrupt

    @property
    def made(self) -> list[str]:
        """What was made on the way."""
        return [text.split()[1].rstrip(",") for text in self.said if text.startswith("making ")]


def entry(model: object, **parameters: object) -> Recipe:
    return {"model": str(model), "parameters": parameters}


def first(few: Path) -> Recipe:
    models = [entry(few / "a", weight=1), entry(few / "b", weight=3)]
    return {"name": "first", "merge_method": "linear", "models": models}


def second(few: Path) -> Recipe:
    """mergekit takes a base that is not listed as the first of two."""
    models = [entry(few / "c")]
    ends = {"base_model": "first", "models": models, "parameters": {"t": 0.3}}
    return {"name": "second", "merge_method": "slerp", **ends}


def last(few: Path) -> Recipe:
    return {
        "merge_method": "dare_ties", "base_model": str(few / "base"), "seed": 3,
        "models": [entry("second", weight=0.5, density=0.6), entry(few / "a", weight=0.5)],
        "dtype": "bfloat16",
    }  # fmt: skip


def run(recipe: Any, out: Path | None = None, **more: Any) -> geo.Result:
    return geo.run(recipe, out, **{"data": None, "output": FAST, **more})


def written(folder: Path, *recipes: Recipe) -> Path:
    path = folder / "stages.yml"
    path.write_text(yaml.safe_dump_all(recipes))
    return path


def data(folder: Path) -> bytes:
    return (folder / WEIGHTS).read_bytes()


def kept() -> list[Path]:
    """Folders of models that were made on the way."""
    return sorted(path for path in (cache_folder() / "stages").iterdir() if path.is_dir())


def by_hand(few: Path, folder: Path) -> bytes:
    """The same, one recipe after the other."""
    one, two, three = first(few), second(few), last(few)
    run(one, folder / "first")
    run({**two, "base_model": str(folder / "first")}, folder / "second")
    three["models"][0]["model"] = str(folder / "second")
    run(three, folder / "last")
    return data(folder / "last")


def test_stages_are_the_merges_one_after_the_other(few: Path, tmp_path: Path) -> None:
    """In whatever order they stand; the last tells of all, and its copy makes the same."""
    stages, out, told = (
        written(tmp_path, last(few), second(few), first(few)),
        tmp_path,
        Told(),
    )
    found = run(stages, out / "out", progress=told)
    assert data(out / "out") == by_hand(few, tmp_path / "hand")
    assert told.made == ["first", "second"]
    report = found.report
    assert [model.name for model in report.models][1:] == ["second", str(few / "a")]
    names = [source.name for source in report.models[1].made_of]
    assert names == [str(few / name) for name in "abc"]
    assert [stage["name"] for stage in report.settings["stages"]] == ["first", "second"]
    assert not any(geo.read_report(place).result.losses for place in kept())  # type: ignore[union-attr]
    assert not report.warnings
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.count("\n---\n") == 3  # the end of the front matter, and between the recipes
    assert "name: second\nmerge_method: slerp\n" in card
    run(tmp_path / "out" / "recipe.yml", tmp_path / "again", progress=(told := Told()))
    assert data(tmp_path / "again") == data(tmp_path / "out")
    assert told.made == []
    assert sum("is made already: " in text for text in told.said) == 2


@pytest.mark.slow
def test_the_command_line(few: Path, tmp_path: Path) -> None:
    stages = written(tmp_path, first(few), {**last(few), "models": [entry("first", weight=1)]})
    flags = ["-o", str(tmp_path / "out"), "--no-eval", "--no-fsync"]
    done = CliRunner().invoke(app, ["run", str(stages), *flags])
    assert done.exit_code == 0, done.stderr
    assert "making first, 1 of 1" in done.stderr
    assert f"in {cache_folder() / 'stages'}" in done.stderr
    (place,) = kept()
    assert f"geo-merge barrier {few / 'base'} {place}" in done.stdout


@pytest.mark.slow
def test_a_changed_recipe_is_made_anew(few: Path, tmp_path: Path) -> None:
    one, two = first(few), {"merge_method": "linear", "models": [entry("first"), entry("second")]}
    three = {**second(few), "base_model": str(few / "b")}
    run([one, three, two], progress=(told := Told()))
    assert told.made == ["first", "second"]
    one["models"][0]["parameters"]["weight"] = 2
    state = run([one, three, two], progress=(told := Told())).state
    assert told.made == ["first"]
    run(one, tmp_path / "first")
    run(three, tmp_path / "second")
    parents = [load_file(tmp_path / name / WEIGHTS) for name in ("first", "second")]
    assert state is not None
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, (parents[0][name] + parents[1][name]) / 2)


@pytest.mark.slow
def test_what_changes_no_weight_makes_nothing_anew(few: Path) -> None:
    one, two = first(few), {"merge_method": "linear", "models": [entry("other")]}
    run([one, {**two, "models": [entry("first")]}])
    run([{**one, "name": "other", "sharpness": "quick"}, two], progress=(told := Told()))
    assert told.made == []


@pytest.mark.slow
def test_a_changed_input_is_made_anew(few: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(few, mine)
    stages = [first(mine), second(mine), last(mine)]
    run(stages)
    state = load_file(mine / "c" / WEIGHTS)
    save_file({name: 2 * t for name, t in state.items()}, mine / "c" / WEIGHTS, {"format": "pt"})
    run(stages, tmp_path / "out", progress=(told := Told()))
    assert told.made == ["second"]
    assert data(tmp_path / "out") == by_hand(mine, tmp_path / "hand")
    (mine / "a" / "generation_config.json").write_text("{}")
    run(stages, progress=(told := Told()))
    assert told.made == ["first", "second"]


@pytest.mark.parametrize(
    "how",
    [
        "other weights",
        pytest.param("no note", marks=pytest.mark.slow),
        pytest.param("gone", marks=pytest.mark.slow),
    ],
)
def test_being_there_is_not_being_made(few: Path, tmp_path: Path, how: str) -> None:
    """mergekit takes any folder of the name that holds a configuration and weights."""
    stages = [first(few), {"merge_method": "passthrough", "models": [entry("first")]}]
    run(stages, tmp_path / "out")
    (place,) = kept()
    if how == "no note":
        place.with_suffix(".json").unlink()
    elif how == "other weights":
        shutil.copy(few / "c" / WEIGHTS, place / WEIGHTS)
    else:
        shutil.rmtree(place)
    run(stages, tmp_path / "again", progress=(told := Told()))
    assert told.made == ["first"]
    assert data(tmp_path / "again") == data(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.99, 1.5])
def test_an_interrupted_stage_goes_on(few: Path, tmp_path: Path, share: float) -> None:
    """In the middle of the first stage, shortly before its end, and in the second."""
    stages = [first(few), second(few), last(few)]
    elements = sum(t.numel() for t in load_file(few / "a" / WEIGHTS).values())
    shards = geo.OutputConfig(fsync=False, max_shard_size="0.07KB")
    with pytest.raises(KeyboardInterrupt):
        run(stages, tmp_path / "out", progress=Told(share * elements), output=shards)
    assert not (tmp_path / "out").exists()
    (partial,) = [path for path in kept() if path.suffix == ".partial"]
    states = {stage.state for stage in dry_run(stages, tmp_path / "out").measurements.stages}
    assert states == {"unfinished", "to be made" if share < 1 else "made"}
    run(stages, tmp_path / "out", progress=(told := Told()), output=shards)
    assert told.made == ["first", "second"][share > 1 :]
    report = geo.read_report(partial.with_suffix(""))
    assert any(note.startswith("resumed: ") for note in report.settings["alignment"])
    expected = [first(few), second(few), last(few)]
    shutil.rmtree(cache_folder())
    run(expected, tmp_path / "whole", output=shards)
    files = sorted(path.name for path in (tmp_path / "whole").glob("*.safetensors"))
    assert len(files) > 1
    for name in files:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_commits_are_told_to_the_bottom(few: Path, tmp_path: Path) -> None:
    """The front matter of the card names what is on the Hub, whatever stage it went into."""
    known = {f"org/{n}": open_folder(few / n, f"org/{n}", n * 40) for n in "abc"}
    one, two = (f"org/{n}" for n in "ab")
    recipes = [
        {"name": "x", "merge_method": "linear", "models": [entry(one), entry(two)]},
        {"name": "y", "merge_method": "linear", "models": [entry("x"), entry("org/c")]},
        {"merge_method": "linear", "models": [entry("y"), entry(one)]},
    ]
    run(recipes, tmp_path / "out", models=known)
    report = geo.read_report(tmp_path / "out")
    assert [model.name for model in report.models] == ["y", one]
    pinned = [f"org/{n}@{n * 40}" for n in "abc"]
    assert [source.pinned for source in report.models[0].made_of] == pinned
    stages = report.settings["stages"]
    assert [model["model"] for model in stages[0]["models"]] == pinned[:2]
    assert [model["model"] for model in stages[1]["models"]] == ["x", pinned[2]]
    card = (tmp_path / "out" / "README.md").read_text().split("---")[1]
    assert yaml.safe_load(card)["base_model"] == ["org/a", "org/b", "org/c"]


def test_all_with_names(few: Path, tmp_path: Path) -> None:
    """The output is the one that no other is made of."""
    named = {**last(few), "name": "third"}
    run([first(few), named, second(few)], tmp_path / "out")
    assert data(tmp_path / "out") == by_hand(few, tmp_path / "hand")
    alone = {**first(few), "models": [entry(few / "a", weight=1)]}
    run(alone, tmp_path / "alone")
    assert load_file(tmp_path / "alone" / WEIGHTS).keys() == load_file(few / "a" / WEIGHTS).keys()


@pytest.mark.slow
def test_a_plan_shows_every_stage(few: Path, tmp_path: Path) -> None:
    stages = [first(few), second(few), last(few)]
    found = dry_run(stages, tmp_path / "out").measurements
    assert [(one.name, one.state) for one in found.stages] == [
        ("first", "to be made"), ("second", "to be made"),
    ]  # fmt: skip
    assert found.stages[0].plan.rows[0].weights == [0.25, 0.75]
    assert found.stages[1].models == ["first", str(few / "c")]
    size = sum(t.nbytes for t in load_file(few / "a" / WEIGHTS).values())
    assert [one.needs for one in found.stages] == [size, size]
    assert not cache_folder().exists()
    done = CliRunner().invoke(app, ["run", str(written(tmp_path, *stages)), "--dry-run"])
    for said in ("first, to be made:", "second, to be made:", "output:", "of disk in the cache"):
        assert said in done.stdout
    run(stages)
    states = [(one.state, one.needs) for one in dry_run(stages).measurements.stages]
    assert states == [("made", 0), ("made", 0)]


def test_models_in_memory_leave_nothing_behind() -> None:
    """They could change unseen between two runs."""
    a, b = ({"w": torch.full((3,), value)} for value in (1.0, 5.0))
    one = {"name": "x", "merge_method": "linear", "models": [entry("a"), entry("b")]}
    two = {"merge_method": "linear", "models": [entry("x", weight=1), entry("b", weight=3)]}
    state = geo.run([one, two], models={"a": a, "b": b}, data=None).state
    assert state is not None
    assert state["w"].tolist() == [4.5, 4.5, 4.5]
    assert not cache_folder().exists()


@pytest.mark.slow
def test_an_adapter_on_a_stage(family: Path, tmp_path: Path) -> None:
    make_adapter(family / "base", tmp_path / "lora", 0, target_modules=["q_proj"])
    one = {"name": "x", "merge_method": "linear", "models": [entry(family / n) for n in "ab"]}
    two = {"merge_method": "linear", "models": [entry(f"x+{tmp_path / 'lora'}"), entry("x")]}
    run([one, two], tmp_path / "out")
    run(one, tmp_path / "x")
    place = tmp_path / "x"
    run({**two, "models": [entry(f"{place}+{tmp_path / 'lora'}"), entry(place)]}, tmp_path / "hand")
    assert data(tmp_path / "out") == data(tmp_path / "hand")


@pytest.mark.slow
def test_a_stage_that_is_trained_and_one_that_loss_chooses(
    small: Path, text: Path, tmp_path: Path
) -> None:
    """Only these are measured; other data make them anew."""
    flat = {
        "name": "flat", "model": str(small / "base"), "train_data": str(text), "steps": 2,
        "train_batch_size": 4, "seq_len": 16,
    }  # fmt: skip
    trained = {"name": "t", "merge_method": "linear", "finetune": [flat], "models": [entry("flat")]}
    held = tmp_path / "held.jsonl"
    halves = [half for line in text.read_text().splitlines() for half in halved(line)]
    held.write_text("\n".join(halves))
    chosen = {
        "name": "g", "merge_method": "greedy", "models": [entry(small / n) for n in "ab"],
        "objective": {"data": str(held), "seq_len": 16},
    }  # fmt: skip
    both = {"merge_method": "linear", "models": [entry("t"), entry("g")]}
    run([trained, chosen, both], tmp_path / "out", progress=(told := Told()))
    assert told.made == ["t", "g"]
    losses = {geo.read_report(place).settings["recipe"]["name"]: geo.read_report(place).data
              for place in kept() if place.suffix != ".members"}  # fmt: skip
    assert losses["t"] is None
    assert losses["g"] is not None
    held.write_text("\n".join(halves[1:]))
    run([trained, chosen, both], progress=(told := Told()))
    assert told.made == ["g"]


def halved(line: str) -> list[str]:
    """Two documents of one."""
    said = json.loads(line)["text"]
    return [json.dumps({"text": part}) for part in (said[:200], said[200:])]


def one_by_one(**names: tuple[str, ...]) -> list[Mapping[str, Any]]:
    """Recipes of these names, each made of those; `out` has no name."""
    recipes = []
    for name, models in names.items():
        recipe = {"merge_method": "linear", "models": [entry(model) for model in models]}
        recipes.append(recipe if name == "out" else {"name": name, **recipe})
    return recipes


@pytest.mark.parametrize(
    ("recipes", "said"),
    [
        (
            one_by_one(x=("y",), y=("z",), z=("x",), out=("x",)),
            r"line \d+: recipes go in a circle, each made of the next: (x -> y -> z -> x|y -> z -> "
            r"x -> y|z -> x -> y -> z) \(one of them must be made of models that are there\)",
        ),
        (one_by_one(x=("x",), out=("x",)), r"line \d+: recipes go in a circle.*: x -> x"),
        (
            [*one_by_one(out=("x",)), *one_by_one(out=("a",))],
            r"line \d+: 2 recipes have no name; the one without is the output .*give the others a",
        ),
        (
            [*one_by_one(x=("a",)), *one_by_one(x=("b",)), *one_by_one(out=("x",))],
            r"line \d+: 2 recipes are called x .*a name of its own",
        ),
        (
            one_by_one(x=("a",), y=("a",)),
            "which recipe makes the output cannot be told: nothing is made of x, y .*leave out",
        ),
        (
            [{**one_by_one(x=("a",))[0], "push_to": "me/x"}, *one_by_one(out=("x",))],
            r"x: .*line \d+: x is made on the way, and only the output is pushed",
        ),
        (
            [{**one_by_one(x=("a",))[0], "merge_method": "slerp"}, *one_by_one(out=("x",))],
            "x: base_model: slerp needs base_model",
        ),
        ([*one_by_one(x=("a",)), {"models": []}], r"line \d+: merge_method is missing"),
    ],
)
def test_recipes_that_are_none(recipes: list[Recipe], said: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=said):
        geo.run(written(tmp_path, *recipes), models={"a": {}, "b": {}}, data=None)


def test_no_recipe_at_all() -> None:
    with pytest.raises(RecipeError, match="expected a recipe, found none"):
        geo.run([])


def test_a_name_of_the_call_and_of_the_file() -> None:
    with pytest.raises(RecipeError, match="x is a recipe of the file, and a model of the call"):
        geo.run(one_by_one(x=("a",), out=("x",)), models={"x": {}})


@pytest.mark.slow
def test_a_name_that_nothing_uses(few: Path, tmp_path: Path) -> None:
    spare = {**first(few), "name": "spare"}
    out = {"merge_method": "linear", "models": [entry(few / "a")]}
    found = run(written(tmp_path, spare, out), progress=(told := Told()))
    assert told.made == []
    (line,) = (text for text in found.report.warnings if "spare" in text)
    assert line.endswith("line 9: nothing is made of spare: it is left out"), line


@pytest.mark.slow
def test_a_name_that_is_a_folder_too(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe wins, as in mergekit; the folder has another way to be named."""
    monkeypatch.chdir(few)
    recipes = one_by_one(a=("b", "c"), out=("a", "./a"))
    found = run(recipes, tmp_path / "out")
    (line,) = (text for text in found.report.warnings if "folder" in text)
    assert "a is a folder, too: the recipe is meant wherever" in line
    assert "(write ./a for the folder)" in line
    a, b, c = (load_file(few / name / WEIGHTS) for name in "abc")
    for name, tensor in load_file(tmp_path / "out" / WEIGHTS).items():
        torch.testing.assert_close(tensor, ((b[name] + c[name]) / 2 + a[name]) / 2)


def test_a_recipe_is_meant_where_mergekit_leaves_its_model(few: Path) -> None:
    """Cards give `./intermediates/NAME`; a folder that is there and a Hub id are meant as such."""
    names = ("./intermediates/first+org/lora", "org/first", f"{few}/a", "first")
    a = {"name": "a", "merge_method": "linear", "models": [entry("first")]}
    found = read_all([first(few), a, *one_by_one(out=names)])
    models = [one.model for one in found.output.recipe.models or []]
    assert models == ["first+org/lora", "org/first", f"{few}/a", "first"]
    (line,) = (text for text in found.output.warnings if "./intermediates/first is no fo" in text)
    assert line.endswith(": the recipe first is meant")


def test_a_name_that_is_no_recipe_is_a_folder_or_of_the_hub(few: Path, tmp_path: Path) -> None:
    recipes = [first(few), *one_by_one(out=("first", "frist"))]
    with pytest.raises(NotFoundError, match="frist: no folder"):
        run(recipes, progress=(told := Told()))
    assert told.made == []


def test_what_does_not_fit_is_refused_before_anything_is_made(few: Path, save: Save) -> None:
    wide = save("wide", {"model.norm.weight": torch.ones(5)})
    two = {"merge_method": "linear", "models": [entry("first"), entry(wide)]}
    with pytest.raises(IncompatibleError):
        run([first(few), two], progress=(told := Told()))
    assert told.made == []


def test_strict_is_for_all(few: Path, tmp_path: Path) -> None:
    odd = {**first(few), "int8_mask": True}
    out = {"merge_method": "linear", "models": [entry("first")]}
    found = run(written(tmp_path, odd, out))
    assert any("int8_mask has no effect" in text for text in found.report.warnings)
    with pytest.raises(RecipeError, match="int8_mask stands beside parameters"):
        read_all(written(tmp_path, odd, out), strict=True)


def test_a_full_disk_is_told_before_anything_is_made(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(stage_store.shutil, "disk_usage", lambda folder: free)
    said = r"stages: models that are made on the way need .* and .* are free there .*XDG_CACHE_HOME"
    with pytest.raises(DiskFullError, match=said):
        run([first(few), second(few), last(few)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cache_that_cannot_be_written(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"cannot be kept: .*set XDG_CACHE_HOME to a folder of"):
        run([first(few), second(few), last(few)])
