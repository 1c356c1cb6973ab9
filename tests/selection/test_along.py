"""Merges along paths: members that join, the flattest point, and the control of a fitted path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mergekit_geo as geo
from mergekit_geo.curvature.largest import lambda_max
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.errors import ArgumentError, IncompatibleError
from mergekit_geo.evaluation.batches import batches_of_rows
from mergekit_geo.records.losses import LossEntry
from mergekit_geo.records.merge import SelectionEntry

NAMED = geo.EvalData("builtin:python-docs", max_examples=120, seq_len=32)
TRAIN = geo.EvalData("builtin:python-docs", split="train", seq_len=32, max_examples=300)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Point(nn.Module):
    """Two weights."""

    def __init__(self, x: float, y: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([x, y]))


def ring(model: nn.Module, noise: Tensor) -> Tensor:
    """A valley along the circle of radius 1, lowest at the right."""
    assert isinstance(model, Point)
    return (model.w.square().sum() - 1).square() * 4 + noise - 0.3 * model.w[0]


def batches_of(function: Any, count: int = 60) -> geo.FunctionObjective:
    noise = torch.rand(count, generator=torch.Generator().manual_seed(0)) + 1
    return geo.FunctionObjective(function, list(noise.chunk(4)))


def soup(models: list[Any], data: Any, train: Any = None, **how: Any) -> geo.Result:
    return geo.soup(
        models, choosing=geo.SelectionConfig(**how), data=data, train_data=train, sharpness="off"
    )


def entry_of(found: geo.Result) -> SelectionEntry:
    assert found.measurements.selection is not None
    return found.measurements.selection


def beside(found: geo.Result) -> dict[str, LossEntry]:
    return {entry.model: entry for entry in found.measurements.losses}


@pytest.mark.parametrize("along", ["linear", "slerp"])
@pytest.mark.slow
def test_members_join_while_the_loss_falls(family: Path, along: str) -> None:
    models = [family / name for name in "abc"]
    found = soup(models, NAMED, along=along)
    entry = entry_of(found)
    assert entry.method == f"members joined one at a time, best along {along}"
    assert len(entry.steps) == 3
    singles = [loss for title, loss in entry.steps if "t =" not in title]
    assert len(singles) == 1
    assert min(loss for _, loss in entry.steps) <= singles[0]
    assert sum(found.measurements.coefficients.weights) == pytest.approx(1)
    legs = [pair for pair in found.measurements.barriers if pair.taken is not None]
    assert len(legs) == entry.chosen.count(" (t = ")
    for leg in legs:
        assert leg.along == along
        assert leg.taken in leg.t


def test_a_member_that_does_not_help_stays_out() -> None:
    def bowl(model: nn.Module, noise: Tensor) -> Tensor:
        assert isinstance(model, Point)
        return model.w.square().sum() + noise

    models = [Point(3.0, 0.1), Point(0.0, 1.0), Point(0.0, -1.1)]
    found = soup(models, batches_of(bowl), along="linear")
    weights = found.measurements.coefficients.weights
    assert weights == pytest.approx([0.0, 1.1 / 2.1, 1 / 2.1], abs=0.02)
    assert len(entry_of(found).steps) == 3


@pytest.mark.slow
def test_members_join_along_paths_that_are_fitted_on_the_way() -> None:
    models = [Point(-0.95, 0.3), Point(0.5, 0.87), Point(0.5, -0.87)]
    data = batches_of(ring)
    found = soup(models, data, data, along="bezier")
    assert entry_of(found).method.endswith("best along bezier")
    losses = beside(found)
    assert losses["output"].loss < min(losses[str(m.name)].loss for m in found.report.models[:3])
    assert found.state is not None
    assert float(found.state["w"].norm()) == pytest.approx(1, abs=0.1)
    (start,) = [name for name in losses if name.endswith("trained further")]
    assert losses[start].role == "reference"
    weights = found.measurements.coefficients.weights
    assert len(weights) > 3
    assert sum(weights) == pytest.approx(1)


def test_a_path_in_a_folder_joins_two_models_only(family: Path, tmp_path: Path) -> None:
    (tmp_path / "way").mkdir()
    with pytest.raises(ArgumentError, match="leads between two models, found 3"):
        soup([family / n for n in "abc"], NAMED, along=str(tmp_path / "way"))


def test_more_models_along_a_fitted_kind_need_training_data(family: Path) -> None:
    with pytest.raises(ArgumentError, match="a polygon path is fitted to training data"):
        soup([family / n for n in "abc"], NAMED, along="polygon")


def test_incompatible_members(family: Path, save: Any) -> None:
    with pytest.raises(IncompatibleError, match="cannot be merged"):
        soup([family / "a", family / "b", save("tiny")], NAMED, along="linear")


def funnel(model: nn.Module, noise: Tensor) -> Tensor:
    """As low everywhere on the way from left to right, and flattest in its middle."""
    assert isinstance(model, Point)
    return noise + (1 + 4 * model.w[0].square()) * model.w[1].square()


def test_the_flattest_of_points_that_are_as_good() -> None:
    found = soup(
        [Point(-1.0, 0.0), Point(1.0, 0.0)],
        batches_of(funnel),
        along="linear",
        pick="flattest",
    )
    entry = entry_of(found)
    assert entry.method == "flattest along linear"
    assert float(entry.chosen.removeprefix("t = ")) == pytest.approx(0.5, abs=0.02)
    assert len(entry.sharpness) == 5
    for title, value in entry.sharpness:
        t = float(title.partition("t = ")[2])
        assert value == pytest.approx(2 * (1 + 4 * (2 * t - 1) ** 2), rel=1e-2)


def test_flattest_stays_within_the_tolerance() -> None:
    def tilted(model: nn.Module, noise: Tensor) -> Tensor:
        assert isinstance(model, Point)
        return funnel(model, noise) + 0.1 * (model.w[0] + 1).square()

    found = soup(
        [Point(-1.0, 0.0), Point(1.0, 0.0)], batches_of(tilted), along="linear", pick="flattest",
        tolerance=0.01,
    )  # fmt: skip
    entry = entry_of(found)
    losses = dict(entry.steps)
    assert losses[entry.chosen] <= 1.01 * min(losses.values())
    assert losses[entry.chosen] > min(losses.values())


@pytest.mark.slow
def test_flattest_on_a_language_model_looks_at_the_selection_half(small: Path) -> None:
    short = replace(NAMED, max_examples=150, seq_len=16)
    found = soup([small / "a", small / "b"], short, along="linear", pick="flattest")
    entry = entry_of(found)
    values = {title.partition(", ")[2]: value for title, value in entry.sharpness}
    assert values[entry.chosen] == min(values.values())


def test_rows_that_do_not_count_have_no_gradient() -> None:
    model, data = Point(0.5, 0.5), batches_of(funnel)
    rows = torch.arange(0, 60, 7).numpy()
    (loss,) = data.batches()[0](model)[:1]
    assert len(loss) == 15
    mean = MeanLoss(model, batches_of_rows(data, rows, model)).value()
    expected = data.measure(model).take(rows).mean
    assert mean == pytest.approx(expected, rel=1e-6)
    assert lambda_max(MeanLoss(model, batches_of_rows(data, rows, model))) > 0


@pytest.fixture(scope="module")
def way(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("way") / "path"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(out.parent / "cache"))
        geo.fit_path(
            [family / "a", family / "independent"], out, train_data=TRAIN, data=NAMED,
            fitting=geo.CurveFitConfig(steps=20, batch_size=8),
        )  # fmt: skip
    return out


@pytest.mark.slow
def test_ends_trained_further_stand_beside_a_point(family: Path, way: Path) -> None:
    ends = [family / "a", family / "independent"]
    losses = beside(soup(ends, NAMED, along=str(way)))
    for end in map(str, ends):
        trained = losses[f"{end}, trained further"]
        assert trained.role == "reference"
        assert trained.loss != losses[end].loss
        assert trained.loss < losses[end].loss + 0.05


@pytest.mark.slow
def test_no_control(family: Path, way: Path) -> None:
    ends = [family / "a", family / "independent"]
    found = soup(ends, NAMED, along=str(way), control=False)
    assert not any("trained further" in name for name in beside(found))
    (missing,) = [item for item in found.report.not_measured if item.what == "control"]
    assert missing.why == "it was turned off"


@pytest.mark.slow
@pytest.mark.pictures
def test_a_control_that_the_budget_does_not_hold(family: Path, way: Path, tmp_path: Path) -> None:
    record = (way / "path.json").read_text()
    slow = record.replace('"seconds": ', '"seconds": 9999')
    assert slow != record
    copy = tmp_path / "slow"
    copy.mkdir()
    (copy / "path.json").write_text(slow)
    (copy / "bends.safetensors").write_bytes((way / "bends.safetensors").read_bytes())
    ends = [family / "a", family / "independent"]
    found = geo.soup(
        ends, tmp_path / "out", choosing=geo.SelectionConfig(along=str(copy)), data=NAMED,
        output=geo.OutputConfig(fsync=False), sharpness="off",
    )  # fmt: skip
    (missing,) = [item for item in found.report.not_measured if item.what == "control"]
    assert "would take about" in missing.why
    assert missing.command.endswith("--control")
    (leg,) = [pair for pair in found.measurements.barriers if pair.along == "bezier"]
    assert leg.taken in leg.t
    assert (tmp_path / "out" / "figures" / "barrier.png").stat().st_size > 5000
