"""Recipes along paths that are fitted, against the commands that do the same in two steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mergekit_geo as geo
from mergekit_geo.commands.path import fitted_route
from mergekit_geo.errors import RecipeError
from mergekit_geo.progress import Silent
from mergekit_geo.recipes.dry_run import dry_run
from mergekit_geo.specs.measures import PathSpec

HELD = {"data": "builtin:python-docs", "seq_len": 8, "max_examples": 150}
FIT = {"steps": 3, "train_batch_size": 4, "lr": 3e-3}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def recipe_of(small: Path, text: Path, names: str = "ab", **along: Any) -> dict[str, Any]:
    return {
        "merge_method": "along", "models": [{"model": str(small / name)} for name in names],
        "objective": HELD, "sharpness": "off", "seed": 2,
        "along": {"train_data": str(text), "control": False, **FIT, **along},
    }  # fmt: skip


class Fits(Silent):
    """What is said of fits: the loss on batches, which all settings have a part in."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def say(self, text: str) -> None:
        if text.startswith("step"):
            self.steps.append(text)


@pytest.mark.slow
def test_the_best_point_of_a_path_fitted_as_the_recipe_says(
    small: Path, text: Path, tmp_path: Path
) -> None:
    apart, told = Fits(), Fits()
    fitted_route(
        PathSpec(
            [small / "a", small / "b"],
            fitting=geo.CurveFitConfig(
                "bezier", bends=2, steps=3, batch_size=4, learning_rate=3e-3
            ),
            seed=5,
            data=geo.EvalData("builtin:python-docs", seq_len=8, max_examples=150, seed=2),
            train_data=geo.EvalData(str(text), seq_len=8, split="train", seed=2),
            progress=apart,
        )
    )
    recipe = recipe_of(small, text, kind="bezier", pick="best", bends=2, seed=5)
    found = geo.run(recipe, tmp_path / "out", output=geo.OutputConfig(fsync=False), progress=told)
    assert told.steps == apart.steps
    assert told.steps[-1].startswith("step 3: training loss ")
    assert [model.role for model in found.report.models] == ["parent"] * 2 + ["bend"] * 2
    chosen, (way,) = found.measurements.selection, found.measurements.barriers[1:]
    assert chosen is not None
    assert chosen.method == "best along bezier"
    t = way.taken
    assert t is not None
    corners = [(1 - t) ** 3, t**3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t)]
    assert found.measurements.coefficients.weights == pytest.approx(corners)
    (missing,) = [item for item in found.report.not_measured if item.what == "control"]
    assert "`control: true` under along in the recipe" in missing.why


@pytest.mark.slow
def test_the_midpoint_of_a_chain_needs_no_objective(small: Path, text: Path) -> None:
    recipe = recipe_of(small, text, kind="neb", pick="midpoint", bends=1) | {"objective": None}
    found = geo.run(recipe, data=geo.EvalData(seq_len=8, max_examples=150))
    assert [model.role for model in found.report.models] == ["parent", "parent", "bend"]
    assert list(found.measurements.coefficients.branches) == ["neb"]
    assert found.measurements.selection is None


@pytest.mark.slow
def test_a_third_model_joins_along_a_path_of_its_own(small: Path, text: Path) -> None:
    found = geo.run(recipe_of(small, text, "abc", kind="bezier", pick="midpoint", steps=1))
    chosen = found.measurements.selection
    assert chosen is not None
    assert chosen.method == "members joined one at a time, midpoint along bezier"


@pytest.mark.parametrize(
    ("along", "said"),
    [
        ({"kind": "bezier"}, "a bezier path is fitted to training data, and n"),
        ({"kind": "bezir"}, "along 'bezir': expected one of linear, slerp, bezier"),
    ],
)
def test_paths_refused_before_anything_is_fitted(
    small: Path, text: Path, along: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        geo.run(recipe_of(small, text) | {"along": along})


def test_a_dry_run_knows_what_paths_there_are(small: Path, text: Path) -> None:
    with pytest.raises(RecipeError, match="along 'bezir': expected one of linear, slerp, bezier"):
        dry_run(recipe_of(small, text) | {"along": {"kind": "bezir"}})


def test_the_best_point_of_a_fitted_path_wants_an_objective(small: Path, text: Path) -> None:
    recipe = recipe_of(small, text, kind="bezier", pick="best") | {"objective": None}
    with pytest.raises(RecipeError, match="along chooses by loss, and nothing says on what data"):
        geo.run(recipe)
