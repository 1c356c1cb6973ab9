"""Measurements on several sets: each is what it would be by itself, and gates ask of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mergekit_geo as geo
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.weighted_sets import on_weighted_mean
from mergekit_geo.modules.load import load_model
from mergekit_geo.specs.measures import BarrierSpec
from tests.evaluation.test_sets import study_of, write_texts


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, str]:
    return write_texts(tmp_path)


class Place(nn.Module):
    """Two weights."""

    def __init__(self, x: float, y: float = 1.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([x, y], dtype=torch.float64))


def wells(height: float, seed: int) -> geo.FunctionObjective:
    """Wells at x = -1 and 1, and a barrier of about so much between them."""

    def loss(model: nn.Module, scale: Tensor) -> Tensor:
        assert isinstance(model, Place)
        return 1 + height * scale * (model.w[0].square() - 1).square()

    draw = torch.Generator().manual_seed(seed)
    return geo.FunctionObjective(loss, list((torch.rand(60, generator=draw) + 0.5).chunk(4)))


MODELS = [Place(-1.0), Place(1.0)]
SETS = {"high": wells(2.0, 0), "low": wells(0.1, 1)}


def test_the_barriers_of_every_set_are_those_by_itself() -> None:
    found = geo.barrier(MODELS, data=SETS).measurements
    assert list(found.sets) == ["high", "low"]
    for name, own in found.sets.items():
        alone = geo.barrier(MODELS, data=SETS[name]).measurements
        assert own.pairs == alone.pairs
        assert own.losses == alone.losses
        assert (own.matrix, own.basins) == (alone.matrix, alone.basins)
    assert found.pairs == found.sets["high"].pairs
    assert "sets" not in geo.barrier(MODELS, data=SETS["low"]).report.to_json()


@pytest.mark.parametrize(
    ("limits", "unmet"),
    [
        (["0.5"], "--fail-above high=0.5"),
        (["5"], ""),
        (["low=0.01"], "--fail-above 0.01"),
        (["high=5", "low=0.01"], "--fail-above low=0.01"),
        (["0.01", "high=5"], "--fail-above low=0.01"),
        (0.01, "--fail-above high=0.01, --fail-above low=0.01"),
    ],
)
def test_a_limit_may_be_that_of_one_set(limits: Any, unmet: str) -> None:
    asked = BarrierSpec(MODELS, data=SETS, points=5, fail_above=limits)
    assert asked.unmet(geo.barrier(MODELS, data=SETS, points=5)) == unmet


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        (["code=1"], r"--fail-above code=1: no set 'code' \(the sets are high, low\)"),
        (["high=much"], "--fail-above high=much: expected a number"),
        (["high=1", "high=2"], "--fail-above is given twice for high"),
    ],
)
def test_limits_that_cannot_be_meant(limits: list[str], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        geo.barrier(MODELS, data=SETS, fail_above=limits)


def test_a_landscape_has_a_sheet_for_every_set_on_one_grid() -> None:
    models, view = [*MODELS, Place(0.0, 2.0)], geo.LandscapeConfig(grid=3)
    found = geo.landscape(models, data=SETS, view=view).measurements
    for name, own in found.sets.items():
        alone = geo.landscape(models, data=SETS[name], view=view).measurements
        assert own.surfaces == alone.surfaces
        assert own.scale == alone.scale
    assert found.surfaces == found.sets["high"].surfaces


def test_a_path_is_measured_on_every_set() -> None:
    found = geo.fit_path(
        MODELS, data=SETS, train_data=wells(2.0, 3), aiming=geo.AimConfig("worst"),
        fitting=geo.CurveFitConfig(steps=3, batch_size=2),
    ).measurements  # fmt: skip
    assert list(found.sets) == ["high", "low"]
    low = geo.barrier(MODELS, data=SETS["low"]).measurements.pairs[0]
    assert found.sets["low"].straight.barrier == low.barrier
    assert found.fitted == found.sets["high"].fitted
    assert 0 <= found.lowest_t <= 1


@pytest.mark.slow
def test_sharpness_is_that_of_every_set_and_of_their_weighted_mean(
    small: Path, texts: dict[str, str]
) -> None:
    data = {
        "first": geo.EvalData(texts["first"], seq_len=16, weight=3),
        "second": geo.EvalData(texts["second"], seq_len=16),
    }
    found = geo.sharpness([small / "a"], data=data).measurements
    for name, own in found.sets.items():
        alone = geo.sharpness([small / "a"], data=data[name]).measurements
        assert own.sharpness[0].extremes == alone.sharpness[0].extremes
    (mean,) = found.weighted
    first, second = (own.sharpness[0].slope for own in found.sets.values())
    assert mean.slope.loss == pytest.approx((3 * first.loss + second.loss) / 4, rel=0.02)
    assert mean.slope.documents > max(first.documents, second.documents)
    merged = geo.soup([small / "a", small / "b"], data=data).measurements
    assert merged.sharpness[0].slope.loss == pytest.approx(mean.slope.loss, rel=0.02)


def test_a_weighted_mean_of_losses_is_one_whatever_the_sizes_of_the_sets(
    small: Path, texts: dict[str, str]
) -> None:
    study = study_of(small, {"x": geo.EvalData(texts["first"], weight=2), "y": texts["second"]})
    joint = on_weighted_mean(study)
    assert joint is not None
    assert joint.plan.objective is not None
    model = load_model(small / "a", geo.Compute())
    each = [one.plan.objective.measure(model).mean for one in study.sets if one.plan.objective]
    assert joint.plan.objective.measure(model).mean == pytest.approx((2 * each[0] + each[1]) / 3)
    loss = MeanLoss(model, joint.plan.objective.batches())
    assert loss.value() == pytest.approx((2 * each[0] + each[1]) / 3)
    assert on_weighted_mean(study_of(small, {"x": texts["first"], "own": wells(1.0, 0)})) is None
