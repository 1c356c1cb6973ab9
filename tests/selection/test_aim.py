"""Points chosen over several sets: their mean, the worst, by weight, and sets that are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mergekit_geo as geo
from mergekit_geo.config.aim import AimConfig
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.evaluation.aim import Aim
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.selection.learning import SteppedLosses
from tests.evaluation.test_sets import study_of

STEEP = 3.0


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Weight(nn.Module):
    """One weight, and one beside it that makes its norm no zero."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([value, 1.0], dtype=torch.float64))


def bowl(at: float, steep: float = 1.0) -> geo.FunctionObjective:
    """Loss steep (w - at)^2 above 1, and noise that is the same for all models."""

    def loss(model: nn.Module, noise: Tensor) -> Tensor:
        assert isinstance(model, Weight)
        return 1 + steep * (model.w[0] - at) ** 2 + noise

    draw = torch.Generator().manual_seed(0)
    return geo.FunctionObjective(loss, list(torch.rand(60, generator=draw).double().chunk(4)))


SETS = {"left": bowl(0), "right": bowl(1, STEEP)}
MODELS = [Weight(0), Weight(1)]


def taken(data: Any = SETS, **aim: Any) -> float:
    """Where on the line between the models the loss is lowest, by an aim."""
    found = geo.soup(
        MODELS, choosing=geo.SelectionConfig(along="linear"), aiming=geo.AimConfig(**aim),
        data=data, sharpness="off",
    )  # fmt: skip
    assert found.state is not None
    return float(found.state["w"][0])


@pytest.mark.parametrize(
    ("aim", "t"),
    [("mean", STEEP / (1 + STEEP)), ("worst", math.sqrt(STEEP) / (1 + math.sqrt(STEEP)))],
)
def test_the_point_of_a_line_is_where_the_aim_is_lowest(aim: str, t: float) -> None:
    """d_left = t^2 and d_right = 3 (1 - t)^2."""
    assert taken(aim=aim) == pytest.approx(t, abs=0.02)


def test_a_set_that_is_kept_is_not_lost_to_another() -> None:
    assert taken(keep=["left"]) == 0.0
    assert taken(keep=["right"]) == 1.0
    with pytest.raises(
        DataError,
        match=r"nothing that was tried keeps left and right; the least bad, .* by \d\.\d+",
    ):
        taken(keep=["left", "right"])


def test_one_set_is_chosen_on_as_ever() -> None:
    assert taken(bowl(0.3)) == pytest.approx(0.3, abs=0.02)
    assert taken({"only": bowl(0.3)}, aim="worst") == pytest.approx(0.3, abs=0.02)


def test_a_greedy_soup_takes_a_specialist_that_helps_the_worst_set() -> None:
    found = geo.soup(
        MODELS, choosing=geo.SelectionConfig(method="greedy"), aiming=geo.AimConfig("worst"),
        data=SETS, sharpness="off",
    )  # fmt: skip
    entry = found.measurements.selection
    assert entry.aim == "maximum over left, right of the loss minus that of the best model there"
    steps = dict(entry.steps)
    assert min(steps.values()) == pytest.approx(STEEP / 4)  # halfway: 1/4 and 3/4
    assert found.measurements.coefficients.weights == [0.5, 0.5]


def test_a_basin_is_of_models_that_no_set_parts_in_the_worst_case() -> None:
    def hill(model: nn.Module, noise: Tensor) -> Tensor:
        assert isinstance(model, Weight)
        return 1 + 4 * model.w[0] * (1 - model.w[0]) + noise

    draw = torch.rand(60, generator=torch.Generator().manual_seed(0)).double()
    data = {"flat": bowl(0.5, 0.0), "hill": geo.FunctionObjective(hill, list(draw.chunk(4)))}
    how = {"choosing": geo.SelectionConfig(basin=True), "data": data, "sharpness": "off"}
    found = geo.soup(MODELS, aiming=geo.AimConfig("worst"), **how)
    assert len(found.measurements.selection.left_out) == 1


def test_sets_of_unlike_units_count_by_shares(small: Path, tmp_path: Path) -> None:
    data: Mapping[str, Any] = {
        "text": geo.EvalData("builtin:python-docs", max_examples=200, seq_len=16),
        "own": geo.FunctionObjective(lambda model, batch: batch, [torch.rand(9)] * 4),
    }
    evaluator = PointEvaluator.open(study_of(small, data), 9)
    aim = Aim(evaluator)
    assert aim.is_relative
    assert "as a share of it (the sets count in unlike units)" in aim.text
    losses = evaluator.at_all(Point.mean([0, 1], evaluator.names))
    for one, found, d in zip(
        evaluator.every,
        losses,
        aim.differences(
            [x.take(e.split.selection) for x, e in zip(losses, evaluator.every, strict=True)]
        ),
        strict=True,
    ):
        rows = one.split.selection
        least = min(one.at_model(i).take(rows).mean for i in range(2))
        assert d == pytest.approx((found.take(rows).mean - least) / least)


def test_learning_for_the_worst_set_weighs_it_more_from_step_to_step(small: Path) -> None:
    text = geo.EvalData("builtin:python-docs", max_examples=150, seq_len=16)
    code = geo.EvalData("builtin:python-source", max_examples=150, seq_len=16, weight=3)
    evaluator = PointEvaluator.open(study_of(small, {"text": text, "code": code}), 9)
    assert Aim(evaluator, AimConfig("weighted")).weights == [0.25, 0.75]
    steps = SteppedLosses(Aim(evaluator, AimConfig("worst")), evaluator.live.model)
    evaluator.go_to(Point.model(0, "a"))
    first = [float(loss.detach()) for loss in steps(0)]
    rises = []
    for one in evaluator.every:
        found, best = one.at_model(0), one.best
        rises.append((found.mean - best.mean) / best.mean)
    assert len(first) == 2
    assert steps.shares.sum() == pytest.approx(1)
    worse = int(np.argmax(rises))
    for step in range(1, 9):
        list(steps(step))
    if rises[0] != rises[1]:
        assert steps.shares[worse] > 0.5


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"aiming": geo.AimConfig(keep=["nowhere"])}, "no set 'nowhere' to keep .*left, right"),
        ({"aiming": geo.AimConfig("worst")}, "nothing is chosen by loss .*--method greedy"),
    ],
)
def test_aims_that_cannot_be_meant(how: dict[str, Any], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        geo.soup(MODELS, data=SETS, **how)
