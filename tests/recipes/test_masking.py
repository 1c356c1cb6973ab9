"""Recipes of the methods that keep elements: from what is written to the rule of each tensor."""

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.cli.app import app
from mergekit_geo.errors import RecipeError
from mergekit_geo.geometry.masked import Masked, Sce
from mergekit_geo.geometry.sparsifiers import (
    Breadcrumbs,
    Dropout,
    MagPrune,
    Sparsifier,
    TopK,
    VarianceTopK,
)
from mergekit_geo.recipes.dry_run import dry_run
from mergekit_geo.recipes.plan import prepare
from tests.conftest import Save

NAMES = ["embed.weight", *(f"layers.{i}.{part}" for i in range(3) for part in ("attn", "mlp"))]
MODELS = {
    model: {n: torch.randn(30, 7, generator=torch.Generator().manual_seed(seed)) for n in NAMES}
    for seed, model in enumerate(["base", "a", "b"])
}


def recipe(method: str, a: dict[str, Any], b: dict[str, Any], **shared: object) -> dict[str, Any]:
    models = [{"model": "base"}, {"model": "a", "parameters": a}, {"model": "b", "parameters": b}]
    return {"merge_method": method, "base_model": "base", "models": models, "parameters": shared}


def rule(said: dict[str, Any], tensor: str) -> Masked | Sce:
    resolved = prepare(said, MODELS).resolved
    found = resolved.rules.get(tensor, resolved.rule)
    assert isinstance(found, Masked | Sce)
    return found


HALF = {"weight": 1.0, "density": 0.5}
KEPT: dict[str, tuple[Sparsifier, bool, bool, bool]] = {
    "ties": (TopK(0.5), False, True, True),
    "dare_linear": (Dropout(0.5), True, False, False),
    "dare_ties": (Dropout(0.5), True, True, False),
    "della_linear": (MagPrune(0.5, 0.15), True, False, False),
    "della": (MagPrune(0.5, 0.15), True, True, True),
    "breadcrumbs": (Breadcrumbs(0.5, 0.01), False, False, False),
    "breadcrumbs_ties": (Breadcrumbs(0.5, 0.01), False, True, False),
}
"""What is kept, and whether it is rescaled, elected and normalised unless the recipe says so."""


@pytest.mark.parametrize("method", KEPT)
def test_defaults_are_mergekits(method: str) -> None:
    keep, rescale, elect, normalize = KEPT[method]
    found = rule(recipe(method, HALF, HALF), "layers.1.mlp")
    assert found == Masked(method, (1.0, 1.0), (keep, keep), rescale, elect, normalize)


def test_each_model_has_gradients_and_filters_of_its_own() -> None:
    said = recipe(
        "della",
        {"weight": [0, 1], "density": [{"filter": "mlp", "value": [0.2, 0.4]}, {"value": 0.5}]},
        {"weight": 2, "epsilon": 0.05},
        density=0.6, epsilon=0.1, rescale=False, normalize=False, **{"lambda": 0.7},
    )  # fmt: skip
    found = rule({**said, "seed": 4}, "layers.1.mlp")
    kept = (MagPrune(0.2 + 0.5 * 0.2, 0.1), MagPrune(0.6, 0.05))
    assert found == Masked("della", (0.5, 2.0), kept, False, True, False, 0.7, 4)
    assert rule(said, "layers.2.attn").sparsifiers[0] == MagPrune(0.5, 0.1)


def test_filters_that_match_nothing_leave_it_to_what_is_said_for_all() -> None:
    mlp = {"filter": "mlp", "value": 0.2}
    said = recipe("ties", {"density": mlp}, {"density": [mlp]}, weight=1.0, density=[0.4, 0.8])
    assert rule(said, "layers.2.mlp").sparsifiers == (TopK(0.2), TopK(0.2))
    assert rule(said, "layers.2.attn").sparsifiers == (TopK(0.8), TopK(0.8))
    said = recipe("ties", {"weight": mlp, "density": mlp}, {}, weight=2.0)
    found = rule(said, "embed.weight")
    assert isinstance(found, Masked)
    assert (found.step, found.sparsifiers) == ((2.0, 2.0), (TopK(1.0), TopK(1.0)))


def test_sce_has_one_parameter() -> None:
    assert rule(recipe("sce", {}, {}, select_topk=0.3), "embed.weight") == Sce(2, VarianceTopK(0.3))


@pytest.mark.parametrize(
    ("method", "a", "b", "shared", "said"),
    [
        ("ties", {"density": 0.5}, HALF, {}, "ties needs the weight of a"),
        ("ties", {**HALF, "density": -1}, HALF, {}, r"density must lie in \[0, 1\], found -1"),
        ("dare_ties", {**HALF, "density": 1.5}, HALF, {}, r"in \[0, 1\], found 1\.5"),
        ("sce", {}, {}, {"select_topk": 2}, "select_topk must lie in"),
        ("della", {**HALF, "density": 0.9}, HALF, {}, r"density 0\.9 and epsilon 0\.15: chances"),
        ("breadcrumbs", {**HALF, "gamma": 2}, HALF, {}, r"gamma must lie in \[0, 1\), found 2"),
        ("ties", {**HALF, "densty": 1}, HALF, {}, "unknown parameter densty .*mean density"),
        ("ties", {**HALF, "density": "many"}, HALF, {}, "expected a number, a list"),
    ],
)
def test_what_cannot_be_meant(
    method: str, a: dict[str, Any], b: dict[str, Any], shared: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        prepare(recipe(method, a, b, **shared), MODELS)


@pytest.mark.parametrize("density", [0, 1])
def test_della_that_keeps_nothing_or_all_does_not_look_at_epsilon(density: float) -> None:
    """As in mergekit, where such a recipe runs whatever epsilon is."""
    said = {"weight": 1.0, "density": density, "epsilon": 0.3}
    found = geo.run(recipe("della", said, {**said, "weight": 0.0}), models=MODELS, data=None)
    for name in NAMES:
        torch.testing.assert_close(found.state[name], MODELS["a" if density else "base"][name])


def test_a_base_is_needed() -> None:
    said = recipe("dare_linear", HALF, HALF)
    del said["base_model"]
    with pytest.raises(RecipeError, match="dare_linear needs base_model"):
        prepare(said, MODELS)


def test_a_parameter_of_another_method_is_a_warning() -> None:
    found = prepare(recipe("ties", {**HALF, "gamma": 0.1}, HALF), MODELS)
    (warning,) = found.warnings
    assert "models[1].parameters.gamma has no effect: gamma has no part in ties" in warning


def test_a_seed_makes_a_merge_again() -> None:
    said = recipe("dare_ties", HALF, HALF)
    states = [geo.run({**said, "seed": s}, models=MODELS, data=None).state for s in (1, 1, 2)]
    first, again, other = (state or {} for state in states)
    assert all(first[name].equal(again[name]) for name in NAMES)
    assert not any(first[name].equal(other[name]) for name in NAMES)


def test_the_plan_says_what_is_kept(save: Save, tmp_path: Path) -> None:
    said = recipe("ties", {**HALF, "density": [0.2, 0.4]}, {"weight": 3.0}, normalize=False)
    rows = dry_run(said, models=MODELS).measurements.rows
    assert [(row.layer, row.weights, row.densities) for row in rows][:2] == [
        ("embed", [-3.0, 1.0, 3.0], [1.0, 0.2, 1.0]),
        ("layers.0", [-3.0, 1.0, 3.0], [1.0, 0.2, 1.0]),
    ]
    path = tmp_path / "ties.yml"
    lines = [f"- {{model: {save(name)}, parameters: {{weight: 1, density: 0.3}}}}" for name in "ab"]
    path.write_text(f"merge_method: ties\nbase_model: {save('c')}\nmodels:\n" + "\n".join(lines))
    shown = CliRunner().invoke(app, ["run", str(path), "--dry-run"])
    assert shown.exit_code == 0, shown.stderr
    assert "0.5 of 0.3" in shown.stdout
    assert "w of d: weight w of a share d of the elements" in shown.stdout
    refused = CliRunner().invoke(app, ["run", str(path)])
    assert refused.exit_code == 2
    assert "--out" in refused.stderr


def test_the_report_says_what_was_kept(save: Save, tmp_path: Path) -> None:
    said = recipe("ties", HALF, {"weight": 1.0})
    models = {**MODELS, "b": MODELS["a"]}
    found = geo.run(said, models=models, data=None).measurements.coefficients
    assert (found.weights, found.kept) == ([0.0, 0.5, 0.5], [None, 0.5, 1.0])
    path, out = tmp_path / "ties.yml", tmp_path / "out"
    path.write_text(
        f"merge_method: ties\nbase_model: {save('c')}\n"
        f"models: [{{model: {save('a')}, parameters: {{weight: 1, density: 0.25}}}}]"
    )
    shown = CliRunner().invoke(app, ["run", str(path), "-o", str(out), "--no-eval", "--no-fsync"])
    assert shown.exit_code == 0, shown.stderr
    share = geo.read_report(out).result.coefficients.kept[1]
    assert f"kept of the task vectors: {tmp_path}/a {share:.2%}" in shown.stdout.replace("\n", "")
    assert f"| 1 of {share:.1%} |" in (out / "README.md").read_text()
