"""geo.barrier on real checkpoints, and on landscapes whose barrier is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import mergekit_geo as geo
from mergekit_geo.commands.barrier import _distinct
from mergekit_geo.connectivity.paths import ModelPath
from mergekit_geo.errors import ArgumentError, DataError, OutputExistsError
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.records.report import Report
from mergekit_geo.views.barrier import curves, describe_barriers
from mergekit_geo.views.matplotlib_.draw import draw

SOME = geo.EvalData(max_examples=150)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Point(nn.Module):
    """One weight."""

    def __init__(self, place: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([place]))


def two_wells(model: nn.Module, scale: torch.Tensor) -> torch.Tensor:
    """1 + scale (w^2 - 1)^2: wells at -1 and 1, a barrier of mean(scale) between them."""
    assert isinstance(model, Point)
    return 1 + scale * (model.w.square() - 1).square()


def wells(count: int = 60) -> geo.FunctionObjective:
    scale = torch.rand(count, generator=torch.Generator().manual_seed(0)) + 1.5
    return geo.FunctionObjective(two_wells, [scale[: count // 2], scale[count // 2 :]])


def test_barrier_of_a_known_landscape() -> None:
    found = geo.barrier([Point(-1.0), Point(1.0)], data=wells())
    (pair,) = found.measurements.pairs
    assert pair.t_max == pytest.approx(0.5, abs=0.02)
    assert pair.barrier.value == pytest.approx(2.0, abs=0.1)
    assert pair.barrier.low is not None
    assert pair.barrier.high is not None
    assert pair.barrier.low < 2 < pair.barrier.high
    assert pair.significant
    assert pair.verdict.startswith("a barrier of ")
    assert len(pair.t) <= 20
    assert found.exceeds(1.0)
    assert not found.exceeds(3.0)
    assert str(found).count("a barrier of") == 1


def test_a_path_is_measured_once_and_paths_of_one_kind_are_told_apart() -> None:
    ends = [Point(-1.0), Point(1.0)]
    twice = geo.barrier(ends, data=wells(), along=("linear", "linear", "slerp"))
    assert [pair.along for pair in twice.measurements.pairs] == ["linear", "slerp"]
    routes = [ModelPath("bezier", lambda t: Linear((1 - t, t)), key=key) for key in "xy"]
    assert [route.name for route in _distinct(["way/x", "way/y"], routes)] == [
        "bezier way/x", "bezier way/y"
    ]  # fmt: skip


def test_a_picture_says_what_its_losses_are_of() -> None:
    found = geo.barrier([Point(-1.0), Point(1.0)], data=wells())
    (pair,) = found.measurements.pairs
    assert found.report.data is not None
    assert pair.documents == found.report.data.documents < 60
    told = f"on {pair.documents} documents, the report half"
    picture = curves([pair])
    assert told in picture.caption
    assert told in " ".join(draw(picture).texts[0].get_text().split())
    assert told in describe_barriers([pair])


def test_barrier_is_within_two_percent_of_a_dense_grid_and_off_centre() -> None:
    ends = [Point(-1.0), Point(1.15)]
    found = geo.barrier(ends, data=wells())
    (pair,) = found.measurements.pairs
    grid = np.linspace(0, 1, 101)
    scale = torch.cat(list(wells().loader))  # type: ignore[arg-type]

    def mean(t: float) -> float:
        return two_wells(Point((1 - t) * -1.0 + t * 1.15), scale).mean().item()

    excess = [mean(t) - (1 - t) * mean(0) - t * mean(1) for t in grid]
    assert pair.t_max == pytest.approx(grid[int(np.argmax(excess))], abs=0.03)
    assert len(pair.t) <= 20


def test_no_barrier_in_one_well() -> None:
    (pair,) = geo.barrier([Point(0.8), Point(1.1)], data=wells()).measurements.pairs
    assert "no" in pair.verdict
    assert not (pair.significant and pair.barrier.value > 0)


def test_basins_and_matrix_of_several() -> None:
    models = [Point(-1.0), Point(1.0), Point(-1.05)]
    found = geo.barrier(models, data=wells(), points=5).measurements
    names = [entry.model for entry in found.losses]
    assert found.basins == [[names[0], names[2]], [names[1]]]
    assert found.matrix[0][1] == found.matrix[1][0] > 1
    assert found.matrix[0][2] == 0


def test_a_loss_that_is_not_a_number_is_reported_where_it_is() -> None:
    def hole(model: nn.Module, scale: torch.Tensor) -> torch.Tensor:
        assert isinstance(model, Point)
        found = two_wells(model, scale)
        return torch.where(model.w.abs() < 0.05, torch.nan, found)

    objective = geo.FunctionObjective(hole, wells().loader)
    (pair,) = geo.barrier([Point(-1.0), Point(1.0)], data=objective).measurements.pairs
    assert pair.loss[pair.t.index(0.5)] is None
    assert "the loss is not finite at t = 0.5" in pair.verdict
    assert pair.barrier.value is not None
    assert pair.barrier.value > 1


@pytest.mark.slow
@pytest.mark.pictures
def test_barrier_between_fine_tunes(family: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    models = [family / "a", family / "b", family / "independent"]
    found = geo.barrier(models, out, along=["linear", "slerp"], points=3, data=SOME)
    pairs = {
        (Path(p.first).name, Path(p.second).name, p.along): p for p in found.measurements.pairs
    }
    assert len(pairs) == 6
    near, far = pairs["a", "b", "linear"], pairs["a", "independent", "linear"]
    assert near.metric is not None
    assert far.barrier.value > near.barrier.value  # type: ignore[operator]
    assert Report.model_validate_json((out / "report.json").read_text()) == found.report
    for picture in ("barrier.png", "barrier.svg", "barrier.csv", "matrix.png"):
        assert (out / "figures" / picture).stat().st_size > 500
    rows = (out / "figures" / "barrier.csv").read_text().splitlines()
    assert len(rows) == 1 + sum(len(pair.t) for pair in pairs.values())
    with pytest.raises(OutputExistsError, match="the output exists"):
        geo.barrier(models, out, data=SOME)


def test_ends_are_the_models_own_losses(family: Path) -> None:
    found = geo.barrier([family / "a", family / "b"], points=3, data=SOME).measurements
    (pair,) = found.pairs
    assert pair.loss[0] == found.losses[0].loss
    assert pair.loss[-1] == found.losses[1].loss


class StopAfter:
    """A progress that is interrupted at some phase."""

    def __init__(self, phases: int) -> None:
        self.left = phases

    def phase(self, title: str, total: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def advance(self, count: int) -> None:
        pass

    def say(self, text: str) -> None:
        pass


@pytest.mark.slow
def test_interrupted_measurement_goes_on(family: Path) -> None:
    models = [family / "a", family / "b"]
    with pytest.raises(KeyboardInterrupt):
        geo.barrier(models, points=5, data=SOME, progress=StopAfter(3))
    counter = StopAfter(99)
    resumed = geo.barrier(models, points=5, data=SOME, progress=counter)
    measured = 99 - counter.left
    again = StopAfter(0)  # everything is known now: nothing is measured
    once_more = geo.barrier(models, points=5, data=SOME, progress=again)
    assert measured == len(resumed.measurements.pairs[0].t) - 3
    assert once_more.measurements == resumed.measurements


def test_bad_requests(family: Path, tmp_path: Path) -> None:
    a, b = family / "a", family / "b"
    with pytest.raises(ArgumentError, match="nothing lies between 1 model"):
        geo.barrier([a])
    with pytest.raises(ArgumentError, match="along 'geodesic': expected one of linear, slerp"):
        geo.barrier([a, b], along=["geodesic"])
    with pytest.raises(ArgumentError, match="at least 3 points"):
        geo.barrier([a, b], points=2)
    with pytest.raises(DataError, match="a model in memory comes without its tokenizer"):
        geo.barrier([Point(1.0), Point(2.0)])
    text = tmp_path / "few.txt"
    text.write_text("\n\n".join(f"document number {i} of the few there are" for i in range(6)))
    with pytest.raises(DataError, match=r"expected at least 5 in each \(give more documents"):
        geo.barrier([a, b], data=geo.EvalData(str(text)))


def test_gate_on_the_command_line(family: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from mergekit_geo.cli.app import app

    words = ["barrier", str(family / "a"), str(family / "b"), "--points", "3", "--max-examples"]
    passed = CliRunner().invoke(app, [*words, "150", "--fail-above", "5", "--json"])
    assert passed.exit_code == 0
    assert json.loads(passed.stdout)["result"]["pairs"][0]["along"] == "linear"
    failed = CliRunner().invoke(app, [*words, "150", "--fail-above=-5"])
    assert failed.exit_code == 3
    assert "geo-merge barrier: --fail-above -5: not satisfied" in failed.stderr
    assert "barrier" in failed.stdout
