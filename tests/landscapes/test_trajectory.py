"""Paths of trainings on the plane of their principal directions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.decomposition import PCA
from torch import nn

import mergekit_geo as geo
from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.checkpoints.runs import Run
from mergekit_geo.errors import ArgumentError, NotFoundError
from mergekit_geo.landscapes.trajectory import Trajectory
from tests.commands.test_landscape import QUADRATIC, Weights, invoke, loss_at

SOME = geo.EvalData(max_examples=40, seq_len=16)
PATTERN = "run/checkpoint-*"
STEPS = [4, 8, 12, 16, 20]


@pytest.fixture
def here(training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the training, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(training)
    return training


def vector(folder: Path) -> Any:
    state = load_file(folder / "model.safetensors")
    return np.concatenate([state[name].double().numpy().ravel() for name in sorted(state)])


def test_a_training_by_trainer_is_that_of_a_pca_of_all_weights(here: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = geo.landscape(
        checkpoints=PATTERN, out=out, data=SOME, view=geo.LandscapeConfig(grid=3), mark=["start"]
    )
    (surface,) = found.measurements.surfaces
    names = [f"run/checkpoint-{step}" for step in STEPS]
    assert [mark.model for mark in surface.marks] == [*names, "start"]
    assert [mark.spans for mark in surface.marks] == [False] * 4 + [True, False]
    vectors = np.array([vector(here / mark.model) for mark in surface.marks])
    reference = PCA(n_components=2).fit(vectors[:-1])
    shares = [axis.explained for axis in surface.axes]
    np.testing.assert_allclose(shares, reference.explained_variance_ratio_, rtol=1e-5)
    offsets = vectors - vectors[-2]
    projected = offsets @ reference.components_.T
    rest = offsets - projected @ reference.components_
    places = [(abs(mark.x), abs(mark.y), mark.off_plane) for mark in surface.marks]
    expected = [*abs(projected).T, np.linalg.norm(rest, axis=1)]
    np.testing.assert_allclose(places, np.array(expected).T, rtol=1e-3, atol=1e-3)
    assert surface.marks[0].x < 0
    path = surface.trajectory
    assert path is not None
    assert [run.model_dump() for run in path.runs] == [
        {"name": "run", "marks": [0, 1, 2, 3, 4], "steps": STEPS}
    ]
    assert path.random_walk == pytest.approx([0.6545, 0.1809], abs=1e-3)
    assert "; a random walk with the same steps would have 65 % and 18 %" in str(found)
    assert "start lies" in str(found)
    with np.load(out / "figures" / "landscape.npz") as arrays:
        assert arrays["path"].tolist() == [0, 1, 2, 3, 4]
        assert arrays["explained"].tolist() == shares


def test_points_of_the_plane_have_the_losses_of_the_closed_form() -> None:
    models = [Weights(i, shift=i) for i in range(4)]
    view = geo.LandscapeConfig(grid=4)
    found = geo.landscape(models, data=QUADRATIC, view=view, trajectory=True).measurements
    (surface,) = found.surfaces
    vectors = np.array([model.vector().detach().numpy() for model in models])
    directions = PCA(n_components=2).fit(vectors).components_
    signs = np.sign(directions @ (vectors[-1] - vectors[0]))  # the start lies on the left, below
    directions = directions * signs[:, None]
    assert surface.marks[0].x < 0
    assert surface.marks[0].y < 0
    for j, y in enumerate(surface.y):
        for i, x in enumerate(surface.x):
            expected = loss_at(vectors[-1] + np.array([x, y]) @ directions)
            assert surface.loss[j][i] == pytest.approx(expected, rel=1e-6)
    assert surface.marks[-1].off_plane == 0
    assert [mark.loss for mark in surface.marks] == pytest.approx([loss_at(v) for v in vectors])
    assert [entry.role for entry in found.losses] == ["parent"] * 4


def test_two_runs_share_a_plane_and_a_start(here: Path, tmp_path: Path) -> None:
    for name, step in (("run/checkpoint-4", "step-10"), ("run/checkpoint-8", "step-9")):
        shutil.copytree(here / name, tmp_path / "other" / step)
        file = tmp_path / "other" / step / "model.safetensors"
        moved = {key: 1.1 * tensor for key, tensor in load_file(file).items()}
        save_file(moved, file, {"format": "pt"})
    found = geo.landscape(
        checkpoints=["start", "run/checkpoint-1?", "run/checkpoint-20", f"{tmp_path}/other/step*"],
        data=SOME, view=geo.LandscapeConfig(grid=2),
    )  # fmt: skip
    (surface,) = found.measurements.surfaces
    path = surface.trajectory
    assert path is not None
    assert [(run.name, run.marks) for run in path.runs] == [
        ("run", [0, 1, 2, 3]), (f"{tmp_path}/other", [0, 4, 5])
    ]  # fmt: skip
    assert path.random_walk is None
    assert "a random walk in many dimensions has 61 % and 15 %" in str(found)
    assert surface.marks[3].off_plane == surface.marks[3].x == 0  # the end of the first run


def test_running_statistics_stay_along_the_path() -> None:
    torch.manual_seed(0)

    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)
            self.norm.weight.data.normal_()
            self.norm.bias.data.normal_()
            self.norm.running_var.uniform_(1, 9)  # type: ignore[union-attr]

    seen = []

    def loss(model: nn.Module, batch: Any) -> Any:
        assert isinstance(model, Normed)
        seen.append(model.norm.running_var.clone())  # type: ignore[union-attr]
        return batch * model.norm.weight.square().sum()

    models = [Normed() for _ in range(3)]
    data = geo.FunctionObjective(loss, [torch.ones(3)])
    geo.landscape(models, data=data, view=geo.LandscapeConfig(grid=2), trajectory=True)
    for variance in seen[-4:]:
        torch.testing.assert_close(variance, models[-1].norm.running_var)


# --- requests that cannot be met


def test_too_few_checkpoints_equal_ones_and_a_line() -> None:
    a, b = Weights(1), Weights(2)
    with pytest.raises(ArgumentError, match="a trajectory needs at least 3 checkpoints, found 2"):
        geo.landscape([a, b], data=QUADRATIC, trajectory=True)
    with pytest.raises(
        ArgumentError, match=r"model 1 .* model 2 \(in memory\) are equal: they spa"
    ):
        geo.landscape([a, a, b], data=QUADRATIC, trajectory=True)
    middle = Weights(1)
    with torch.no_grad():
        for own, first, second in zip(*(m.parameters() for m in (middle, a, b)), strict=True):
            own.copy_(0.3 * first + 0.7 * second)
    with pytest.raises(ArgumentError, match="the 3 checkpoints lie on one line, and many planes"):
        geo.landscape([a, middle, b], data=QUADRATIC, trajectory=True)


def test_trainings_may_begin_at_equal_checkpoints() -> None:
    start, a, b, c = (Weights(seed) for seed in range(4))
    anchors = open_checkpoints([start, a, start, b, c])
    runs = [Run("one", (0, 1), (0, 1)), Run("other", (2, 3, 4), (0, 1, 2))]
    found = Trajectory.of(anchors, runs, 5).grid(anchors, geo.LandscapeConfig(grid=2), "auto")
    assert found.places[0] == found.places[2]
    with pytest.raises(ArgumentError, match="are equal"):
        Trajectory.of(anchors, [Run("all", (0, 1, 2, 3, 4), (0, 1, 2, 3, 4))], 5)


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"each": True}, "--each"),
        ({"hessian": True}, "--hessian-directions"),
        ({"radius": 1.0}, "--radius"),
        ({"filter_normalization": "off"}, "--filter-normalization"),
    ],
)
def test_a_trajectory_with_another_plane(options: Any, flag: str) -> None:
    models, view = [Weights(i) for i in range(3)], geo.LandscapeConfig(**options)
    with pytest.raises(ArgumentError, match=f"a plane of its own, and {flag} is of another"):
        geo.landscape(models, data=QUADRATIC, view=view, trajectory=True)


def test_checkpoints_beside_models_and_patterns_of_nothing(here: Path) -> None:
    with pytest.raises(ArgumentError, match="start: expected either models or --checkpoints, foun"):
        geo.landscape("start", checkpoints=PATTERN)
    with pytest.raises(NotFoundError, match=r"run/step-\*: no folder and no .safetensors file mat"):
        geo.landscape(checkpoints="run/step-*")


# --- the command


def test_on_the_command_line_a_shell_may_spell_out_the_pattern(here: Path) -> None:
    rest = ["--grid", 2, "--max-examples", 40, "--seq-len", 16, "--json"]
    spelt = sorted(str(path.relative_to(here)) for path in here.glob(PATTERN))
    assert spelt[0] == "run/checkpoint-12"  # sorted as text
    results = []
    for words in ([PATTERN], spelt):
        code, stdout, stderr = invoke("landscape", "--checkpoints", *words, *rest)
        assert code == 0, stderr
        results.append(json.loads(stdout))
    assert results[0]["result"] == results[1]["result"]
    again = results[0]["provenance"]["command"]
    assert again.startswith("geo-merge landscape '--checkpoints=run/checkpoint-*' --grid=2")


def test_bad_words(here: Path) -> None:
    code, _, stderr = invoke("landscape", "--checkpoints", "--grid", 3)
    assert code == 2
    assert "option '--checkpoints' requires an argument" in stderr
    code, _, stderr = invoke("landscape", "--grid", 3)
    assert code == 2
    assert "missing argument 'MODEL...', or --checkpoints" in stderr
    code, _, stderr = invoke("landscape", "--checkpoints", "run/checkpoint-4", "run/checkpoint-8")
    assert code == 1
    assert "a trajectory needs at least 3 checkpoints, found 2" in stderr
