"""WiSE-FT: the places between a base and its fine-tune, on every set, and the one that is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.cli.app import app
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.errors import ArgumentError, DataError, GeoError
from mergekit_geo.records.report import Report
from tests.models import random_state

HOW = {"sharpness": "off", "compute": geo.Compute(device="cpu", budget=0)}
BASE, TUNED = random_state("base"), random_state("tuned")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two files of other documents, a set each."""
    folder = tmp_path_factory.mktemp("texts")
    words = [" ".join(document.text.split()) for document in builtin_documents("train")]
    found = {}
    for name, start in (("near", 0), ("far", 200)):
        (folder / f"{name}.txt").write_text(
            "\n\n".join(text[start : start + 200] for text in words[:40])
        )
        found[name] = str(folder / f"{name}.txt")
    return found


@pytest.fixture(scope="module")
def swept(small: Path, texts: dict[str, str]) -> Report:
    """The sweep of five places from the base to a, on both sets."""
    return sweep(small, texts, sweep=5).report


def sweep(small: Path, data: Any, **more: Any) -> geo.Result:
    models = [small / "base", small / "a"]
    return geo.merge(models, method="wise-ft", data=data, **{**HOW, **more})


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_a_point_is_the_mean_by_t(t: float) -> None:
    found = geo.merge([BASE, TUNED], method="wise-ft", t=t, data=None).state
    assert found is not None
    for name, tensor in found.items():
        naive = (1 - t) * BASE[name].double() + t * TUNED[name].double()
        assert torch.equal(tensor, naive.float()), name


def test_ends_and_middle_have_the_losses_of_models_and_soup(swept: Report) -> None:
    found = swept.result.sweep
    assert (found.first.endswith("base"), found.second.endswith("a")) == (True, True)
    for name, points in found.sets.items():
        assert [point.t for point in points] == [0, 0.25, 0.5, 0.75, 1]
        base, tuned, soup, output = swept.result.sets[name].losses
        assert points[0].loss.value == pytest.approx(base.loss, rel=1e-12)
        assert points[4].loss.value == pytest.approx(tuned.loss, rel=1e-12)
        assert points[2].loss.value == pytest.approx(soup.loss, rel=1e-6)
        (taken,) = (point for point in points if point.t == found.taken)
        assert taken.loss.value == pytest.approx(output.loss, rel=1e-6)


def test_differences_are_paired(swept: Report) -> None:
    for points in swept.result.sweep.sets.values():
        for point in points:
            assert point.from_first.value == pytest.approx(point.loss.value - points[0].loss.value)
            assert point.from_second.value == pytest.approx(point.loss.value - points[4].loss.value)
            for one in (point.loss, point.from_first, point.from_second):
                assert one.low <= one.value <= one.high
        assert (points[0].from_first.low, points[0].from_first.high) == (0, 0)


def test_the_lowest_of_the_places_by_the_aim_is_taken(swept: Report) -> None:
    entry, found = swept.result.selection, swept.result.sweep
    steps = dict(entry.steps)
    assert list(steps) == ["t = 0.0000", "t = 0.2500", "t = 0.5000", "t = 0.7500", "t = 1.0000"]
    assert min(steps, key=steps.__getitem__) == f"t = {found.taken:.4f}"
    assert entry.method == "best of 5 points along linear"
    assert entry.aim.startswith("mean over near, far")
    assert swept.result.coefficients.weights == [1 - found.taken, found.taken]


def test_an_aim_and_the_recipe_that_follows(
    small: Path, texts: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    worst = geo.AimConfig("worst")
    report = sweep(small, texts, sweep=3, aiming=worst, out=out).report
    assert report.result.selection.aim.startswith("maximum over near, far")
    assert (report.settings["sweep"], report.settings["aim"]) == (3, "worst")
    assert {"--sweep=3", "--aim=worst"} <= set(report.provenance.command.split())
    assert (out / "figures" / "sweep.csv").read_text().count("\n") == 1 + 2 * 3
    again = geo.run(report.result.coefficients.recipe, data=None).state
    written = load_file(out / "model.safetensors")
    assert again is not None
    assert all(torch.equal(written[name], again[name]) for name in written)


def test_a_recipe_sweeps_a_path(small: Path, texts: dict[str, str], swept: Report) -> None:
    recipe = {
        "merge_method": "along", "along": {"kind": "linear", "sweep": 5},
        "models": [{"model": str(small / name)} for name in ("base", "a")],
        "objective": {"sets": [{"name": name, "data": one} for name, one in texts.items()]},
    }  # fmt: skip
    report = geo.run(recipe, sharpness="off", compute=geo.Compute(budget=0)).report
    assert report.result.sweep == swept.result.sweep


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"sweep": 2}, "sweep must be at least 3, found 2"),
        ({"sweep": 5, "t": 0.5}, "--t 0.5 names the point, and --sweep chooses it"),
        ({"sweep": 5, "method": "linear"}, "--sweep measures the points of --method wise-ft"),
        ({"aiming": geo.AimConfig("worst")}, "nothing is chosen by loss"),
        ({"sweep": 5, "data": None}, "loss cannot be measured: evaluation was turned off"),
        ({"sweep": 5, "data": geo.EvalData()}, "would be tuned to the built-in text"),
        ({"sweep": 5, "aiming": geo.AimConfig(keep=["chat"])}, "no set 'chat' to keep"),
    ],
)
def test_invalid_sweeps(
    small: Path, texts: dict[str, str], settings: dict[str, Any], match: str
) -> None:
    how = {"data": texts, **HOW, "method": "wise-ft", **settings}
    with pytest.raises(GeoError, match=match):
        geo.merge([small / "base", small / "a"], **how)


def test_a_sweep_is_between_two_models(small: Path, texts: dict[str, str]) -> None:
    models = [small / name for name in ("base", "a", "b")]
    with pytest.raises(ArgumentError, match="wise-ft takes 1 model beside the base, found 2"):
        geo.merge(models, method="wise-ft", sweep=3, data=texts, **HOW)
    along = geo.SelectionConfig(along="linear", sweep=3)
    with pytest.raises(ArgumentError, match="--sweep is of the path between two models, found 3"):
        geo.soup(models, choosing=along, data=texts, **HOW)


def test_a_sweep_needs_a_path_and_the_best_of_it() -> None:
    with pytest.raises(ArgumentError, match="--sweep measures points of a path"):
        geo.SelectionConfig(sweep=3)
    with pytest.raises(ArgumentError, match="--sweep and --pick flattest are two ways"):
        geo.SelectionConfig(along="linear", sweep=3, pick="flattest")


def test_too_few_documents_are_refused(small: Path, tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("one\n\ntwo")
    with pytest.raises(DataError, match="expected at least 5 in each"):
        sweep(small, str(tmp_path / "few.txt"), sweep=3)


def test_the_shell_refuses_a_point_beside_a_sweep(small: Path) -> None:
    words = ["merge", str(small / "base"), str(small / "a"), "-o", "out", "--method", "wise-ft"]
    done = CliRunner().invoke(app, [*words, "--sweep", "11", "--t", ".5"])
    assert done.exit_code == 1
    assert "leave one of them out" in done.output
