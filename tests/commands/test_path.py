"""geo.fit_path, geo.point, and soups and barriers along fitted paths, on real checkpoints."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.checkpoints.comparison import Preflight
from mergekit_geo.cli.app import app
from mergekit_geo.errors import (
    ArgumentError,
    DataError,
    FormatError,
    GeoError,
    IncompatibleError,
    NotFoundError,
    OutputError,
    OutputExistsError,
    PushError,
)
from mergekit_geo.progress import Silent
from mergekit_geo.records.path import PathRecord
from tests.forks import FORKS

pytestmark = pytest.mark.pictures

FAST = geo.OutputConfig(fsync=False)
HELD = geo.EvalData(max_examples=120, seq_len=32)
TRAIN = geo.EvalData("builtin:python-docs", split="train", seq_len=32, max_examples=300)
SHORT = geo.CurveFitConfig(steps=20, batch_size=8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def ends(family: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("ends")
    return [Path(shutil.copytree(family / n, folder / n)) for n in ("a", "independent")]


@pytest.fixture
def small_ends(small: Path) -> list[Path]:
    return [small / "a", small / "c"]


@pytest.fixture(scope="module")
def fitted(ends: list[Path], tmp_path_factory: pytest.TempPathFactory) -> geo.Result:
    folder = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        return geo.fit_path(ends, folder / "path", train_data=TRAIN, fitting=SHORT, data=HELD)


@pytest.mark.slow
def test_a_path_folder_holds_what_was_fitted(fitted: geo.Result, ends: list[Path]) -> None:
    assert fitted.out is not None
    assert {p.name for p in fitted.out.iterdir()} == {
        "path.json", "bends.safetensors", "report.json", "report.html", "figures",
    }  # fmt: skip
    record = PathRecord.model_validate_json((fitted.out / "path.json").read_bytes())
    assert record.measured == fitted.measurements
    assert [end.name for end in record.ends] == list(map(str, ends))
    assert all(len(end.digest) == 64 for end in record.ends)
    assert record.settings["steps"] == 20
    found = fitted.measurements
    assert found.kind == "bezier"
    assert found.length_ratio >= 1
    assert [step for step, _ in found.history][:1] == [0]
    assert found.straight.along == "linear"
    assert (fitted.out / "figures" / "barrier.png").stat().st_size > 5000


def test_the_path_is_lower_than_the_segment(fitted: geo.Result) -> None:
    found = fitted.measurements
    assert found.fitted.path_max is not None
    assert found.straight.path_max is not None
    assert found.fitted.path_max < found.straight.path_max


@pytest.mark.slow
def test_a_point_is_the_sum_of_ends_and_bend(
    fitted: geo.Result, ends: list[Path], tmp_path: Path
) -> None:
    assert fitted.out is not None
    found = geo.point(fitted.out, tmp_path / "out", t=0.3, output=FAST, data=HELD, sharpness="off")
    a, b = (load_file(end / "model.safetensors") for end in ends)
    bend = load_file(fitted.out / "bends.safetensors")
    merged = load_file(tmp_path / "out" / "model.safetensors")
    for name, tensor in merged.items():
        expected = (
            0.49 * a[name].double()
            + 0.42 * bend[f"bend.0.{name}"].double()
            + 0.09 * b[name].double()
        )
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-7)
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    parents = [entry for entry in found.measurements.losses if entry.role == "parent"]
    assert [entry.model for entry in parents] == list(map(str, ends))
    assert found.measurements.coefficients.weights == pytest.approx([0.49, 0.09, 0.42])
    assert "bend 1" in (tmp_path / "out" / "README.md").read_text()


def test_ends_are_written_to_the_bit(fitted: geo.Result, ends: list[Path], tmp_path: Path) -> None:
    assert fitted.out is not None
    for t, end in zip((0.0, 1.0), ends, strict=True):
        geo.point(fitted.out, tmp_path / f"{t}", t=t, output=FAST, data=None)
        merged = load_file(tmp_path / f"{t}" / "model.safetensors")
        own = load_file(end / "model.safetensors")
        assert all(torch.equal(tensor, own[name]) for name, tensor in merged.items())


@pytest.mark.slow
def test_soup_along_a_fitted_path(fitted: geo.Result, ends: list[Path], tmp_path: Path) -> None:
    choosing = geo.SelectionConfig(along=str(fitted.out), pick="best", control=False)
    named = geo.EvalData("builtin:python-docs", max_examples=120, seq_len=32)
    found = geo.soup(ends, choosing=choosing, data=named, sharpness="off")
    selection = found.measurements.selection
    assert selection is not None
    assert selection.method == "best along bezier"
    t = float(selection.chosen.removeprefix("t = "))
    expected = [(1 - t) ** 2, t**2, 2 * t * (1 - t)]
    assert found.measurements.coefficients.weights == pytest.approx(expected, abs=1e-3)


def test_mean_of_points_along_a_path(fitted: geo.Result, ends: list[Path]) -> None:
    choosing = geo.SelectionConfig(along=str(fitted.out), pick="mean", average_points=3)
    found = geo.soup(ends, choosing=choosing, data=None)
    assert found.measurements.coefficients.weights == pytest.approx([1.25 / 3, 1.25 / 3, 0.5 / 3])
    with pytest.raises(ArgumentError, match="the mean of points along slerp is no one rule"):
        geo.soup(ends, choosing=geo.SelectionConfig(along="slerp", pick="mean"), data=None)


@pytest.mark.slow
def test_barrier_along_a_fitted_path(fitted: geo.Result, ends: list[Path]) -> None:
    found = geo.barrier(ends, along=["linear", str(fitted.out)], points=3, data=HELD)
    straight, curved = found.measurements.pairs
    assert (straight.along, curved.along) == ("linear", "bezier")
    assert curved.path_max is not None
    assert straight.path_max is not None
    assert curved.path_max < straight.path_max


class Point(nn.Module):
    """Two weights."""

    def __init__(self, x: float, y: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([x, y]))


def ring(model: nn.Module, noise: Tensor) -> Tensor:
    """A valley along the circle of radius 1: the straight way crosses its middle."""
    assert isinstance(model, Point)
    return (model.w.square().sum() - 1).square() * 4 + noise + 0.3 * model.w[1].square()


def rings(count: int = 60) -> geo.FunctionObjective:
    noise = torch.rand(count, generator=torch.Generator().manual_seed(0)) + 1
    return geo.FunctionObjective(ring, list(noise.chunk(4)))


@pytest.mark.parametrize(("kind", "bends"), [("bezier", 2), ("polygon", 3)])
@pytest.mark.slow
def test_modules_in_memory_are_connected_around_a_hill(kind: str, bends: int) -> None:
    ends = [Point(-1.0, 0.05), Point(1.0, 0.05)]
    fitting = geo.CurveFitConfig(kind, bends, steps=400, learning_rate=0.05)
    found = geo.fit_path(ends, train_data=rings(), fitting=fitting, data=rings()).measurements
    assert found.straight.barrier.value == pytest.approx(4, abs=0.2)
    assert found.removed is not None
    assert found.removed > 0.8
    assert found.length_ratio > 1.2


@pytest.mark.slow
def test_early_stopping_and_restarts_keep_the_best() -> None:
    ends = [Point(-1.0, 0.05), Point(1.0, 0.05)]
    fitting = geo.CurveFitConfig("bezier", 2, learning_rate=0.05, restarts=2)
    found = geo.fit_path(ends, train_data=rings(), fitting=fitting, data=rings()).measurements
    assert 0 < found.steps < 2000
    assert found.history[-1][1] == min(highest for _, highest in found.history)
    assert found.seed in {0, 1}


def words_of(ends: list[Path], out: Path, steps: int = 80) -> list[str]:
    return [
        "path", *map(str, ends), "-o", str(out), "--train-data", "builtin:python-docs",
        "--steps", str(steps), "--train-batch-size", "4", "--max-examples", "100",
        "--seq-len", "32",
    ]  # fmt: skip


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 10, 100 << 10))
from mergekit_geo.cli.app import main
main()
"""
"""The command with a file size limit, which stands in for a full disk: EFBIG for ENOSPC."""


@pytest.mark.slow
def test_a_killed_fit_goes_on_to_the_same_result(small_ends: list[Path], tmp_path: Path) -> None:
    out, whole = tmp_path / "path", tmp_path / "whole"
    process = FORKS.begin(["-m", "mergekit_geo", *words_of(small_ends, out)], tmp_path)
    state = tmp_path / "path.partial" / "fit.safetensors"
    while process.poll() is None and not (state.exists() and _done(state) >= 50):
        time.sleep(0.05)
    process.kill()
    assert not out.exists()
    done, other = (CliRunner().invoke(app, words_of(small_ends, path)) for path in (out, whole))
    assert done.exit_code == other.exit_code == 0, done.stderr
    assert "step 50:" not in done.stderr
    assert "step 50:" in other.stderr
    first, second = (load_file(p / "bends.safetensors") for p in (out, whole))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def _done(path: Path) -> int:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return int(file.metadata()["done"])
    except (OSError, SafetensorError):
        return 0


@pytest.mark.slow
def test_two_gloo_processes_have_bends_that_are_equal_to_the_bit(
    small_ends: list[Path], tmp_path: Path
) -> None:
    """The script saves each process's own bends, and they are compared."""
    script = tmp_path / "fit.py"
    script.write_text(
        "import sys, torch, mergekit_geo as geo\n"
        "from mergekit_geo.processes import world\n"
        "from safetensors.torch import save_file\n"
        "train = geo.EvalData('builtin:python-docs', split='train', seq_len=32,\n"
        "    max_examples=60)\n"
        "held = geo.EvalData(max_examples=100, seq_len=32)\n"
        "found = geo.fit_path(sys.argv[1:3], train_data=train, data=held,\n"
        "    fitting=geo.CurveFitConfig(steps=6, batch_size=4))\n"
        "save_file({k: v.clone() for k, v in found.route.bends[0].state.items()},\n"
        "    f'{sys.argv[3]}/{world()[0]}.safetensors')\n"
    )
    done = FORKS.together([str(script), *map(str, small_ends), str(tmp_path)], tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_no_training_data(ends: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training data to fit a path on"):
        geo.fit_path(ends, tmp_path / "path", train_data=None)


def test_equal_ends(ends: list[Path]) -> None:
    with pytest.raises(ArgumentError, match="equal: there is nothing to fit"):
        geo.fit_path([ends[0], ends[0]], train_data=TRAIN, data=HELD)


def test_not_two_models(ends: list[Path]) -> None:
    with pytest.raises(ArgumentError, match="between two models, and there are 3"):
        geo.fit_path([*ends, ends[0]], train_data=TRAIN)


def test_incompatible_ends(ends: list[Path], save: object) -> None:
    with pytest.raises(IncompatibleError, match="cannot be merged"):
        geo.fit_path([ends[0], save("tiny")], train_data=TRAIN)  # type: ignore[operator]


def test_output_exists(ends: list[Path], tmp_path: Path) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "precious").touch()
    with pytest.raises(OutputExistsError, match="the output exists"):
        geo.fit_path(ends, tmp_path / "path", train_data=TRAIN)


def test_t_outside(fitted: geo.Result, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["point", str(fitted.out), "--t", "1.5", "-o", str(tmp_path)])
    assert done.exit_code == 1
    assert "t must lie in [0, 1], found 1.5" in done.stderr


def test_a_folder_that_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no path\.json: this is no fitted path"):
        geo.point(tmp_path)


def test_a_damaged_path(fitted: geo.Result, tmp_path: Path) -> None:
    assert fitted.out is not None
    copy = Path(shutil.copytree(fitted.out, tmp_path / "path"))
    with (copy / "bends.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\x00\x00\x00\x40")
    with pytest.raises(FormatError, match=r"bends\.safetensors is missing or not the one"):
        geo.point(copy)
    (copy / "path.json").write_text("{")
    with pytest.raises(FormatError, match=r"not a sound path\.json"):
        geo.point(copy)


def test_ends_that_have_changed(fitted: geo.Result, ends: list[Path], tmp_path: Path) -> None:
    swapped = [ends[1], ends[0]]
    with pytest.raises(IncompatibleError, match="not what the path was fitted to"):
        geo.barrier(swapped, along=[str(fitted.out)], data=HELD)


def test_a_kind_that_is_fitted_first(ends: list[Path]) -> None:
    with pytest.raises(ArgumentError, match="a bezier path is fitted to training data"):
        geo.barrier(ends, along=["bezier"], data=HELD)


@pytest.mark.slow
def test_full_disk_during_a_checkpoint(ends: list[Path], tmp_path: Path) -> None:
    words = ["-c", FULL, *words_of(ends, tmp_path / "path", steps=10)]
    done = FORKS(words, tmp_path, {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "other")})
    assert done.returncode == 1
    assert "SafetensorError" not in done.stderr
    assert "File too large: the output needs" in done.stderr
    assert not (tmp_path / "path").exists()


@pytest.mark.slow
def test_barrier_along_a_path_that_is_fitted_first() -> None:
    ends = [Point(-1.0, 0.3), Point(1.0, 0.3)]
    found = geo.barrier(ends, along=["linear", "bezier"], data=rings(), train_data=rings())
    straight, curved = found.measurements.pairs
    assert curved.along == "bezier"
    assert curved.barrier.value is not None
    assert straight.barrier.value is not None
    assert curved.barrier.value < 0.5 * straight.barrier.value


class Phases(Silent):
    """What was begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def phase(self, title: str, total: int) -> None:
        self.begun.append(title)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"data": geo.EvalData()}, ArgumentError, "would be tuned to the built-in text"),
        ({"data": geo.EvalData("no.txt")}, DataError, "no such file"),
        ({"data": None}, DataError, "loss cannot be measured"),
        ({"train_data": geo.EvalData("no.txt")}, DataError, "no such file"),
        ({"output": geo.OutputConfig(push_to="org/name")}, PushError, "nobody answers"),
        ({"out": "a/out"}, OutputError, "the output would touch the input"),
    ],
)
def test_what_needs_no_work_is_refused_before_a_path_is_fitted(
    ends: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    error: type[GeoError],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mergekit_geo.commands.early.prepare_push", nobody_answers)
    told = Phases()
    named = replace(HELD, source="builtin:python-docs")
    given = {"out": "out", "data": named, "train_data": TRAIN, "output": FAST, **settings}
    out = ends[0] / "out" if given.pop("out") == "a/out" else tmp_path / "out"
    with pytest.raises(error, match=message):
        geo.soup(ends, out, choosing=geo.SelectionConfig(along="bezier"), progress=told, **given)
    assert told.begun == []


def nobody_answers(output: geo.OutputConfig, out: Path | None) -> None:
    if output.push_to is not None:
        raise PushError("nobody answers")


@pytest.mark.parametrize("data", [geo.EvalData("no.txt"), None])
@pytest.mark.parametrize("measure", [geo.barrier, geo.landscape, geo.sharpness])
def test_data_is_looked_at_before_models_are(
    ends: list[Path], monkeypatch: pytest.MonkeyPatch, measure: Any, data: geo.EvalData | None
) -> None:
    def fetch(found: Preflight) -> None:
        raise AssertionError("the models were fetched")

    monkeypatch.setattr(Preflight, "fetch", fetch)
    with pytest.raises(DataError, match=r"no such file|loss cannot be measured"):
        measure(ends, data=data)
