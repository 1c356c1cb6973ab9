"""AutoNEB, on a landscape whose saddle is known."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mergekit_geo as geo
from mergekit_geo.checkpoints.memory import of_module
from mergekit_geo.connectivity.curves import Bends
from mergekit_geo.connectivity.neb import EXCESS, Band, missing
from mergekit_geo.evaluation.batches import Shuffled
from mergekit_geo.geometry.curves import curve_of, respaced, rule_at
from mergekit_geo.modules.blend import InPlace
from mergekit_geo.progress import Silent

SADDLE = 0.3
"""Of the valley below, above its ends."""


class Point(nn.Module):
    """Two weights."""

    def __init__(self, x: float, y: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([x, y], dtype=torch.float64))


def ring(model: nn.Module, noise: Tensor) -> Tensor:
    """A valley along the circle of radius 1, whose floor is highest at its top and bottom."""
    assert isinstance(model, Point)
    return (model.w.square().sum() - 1).square() * 4 + noise + SADDLE * model.w[1].square()


def rings(count: int = 60) -> geo.FunctionObjective:
    noise = torch.rand(count, generator=torch.Generator().manual_seed(0)) + 1
    return geo.FunctionObjective(ring, list(noise.chunk(4)))


ENDS = (-1.0, 0.05), (1.0, 0.05)


def band(settings: geo.CurveFitConfig) -> Band:
    live = InPlace(Point(0, 0), {"w": "w"})
    ends = [of_module(Point(*end), f"end {i}") for i, end in enumerate(ENDS)]
    bends = Bends(ends, curve_of("neb", settings.corners), live)

    def watch(bends: Bends, places: Sequence[float]) -> list[float]:
        found = []
        for t in places:
            live.put(bends.at(rule_at(bends.curve, t)))
            found.append(float(ring(live.model, torch.zeros(1, dtype=torch.float64)).detach()))
        return found

    return Band(bends, live, Shuffled(rings(), 1, 0), settings, 0, watch)


@pytest.mark.slow
def test_the_saddle_of_a_valley_is_found() -> None:
    fitting = geo.CurveFitConfig("neb", steps=400, learning_rate=0.05)
    ends = [Point(*end) for end in ENDS]
    found = geo.fit_path(ends, train_data=rings(), fitting=fitting, data=rings()).measurements
    assert found.kind == "neb"
    assert found.places is not None
    assert len(found.places) == found.bends > 3
    assert found.saddle is not None
    base = found.straight.loss[0]
    assert base is not None
    assert found.saddle.loss.value is not None
    assert found.saddle.loss.value - base == pytest.approx(SADDLE, abs=0.04)
    assert found.saddle.t == pytest.approx(0.5, abs=0.06)
    assert found.length_ratio == pytest.approx(1.52, abs=0.06)  # an arc of 3.04, in chords


def test_pivots_move_across_the_path_and_stay_at_their_shares_of_its_length() -> None:
    fit = band(geo.CurveFitConfig("neb", 4, steps=40, learning_rate=0.05))
    for _ in range(9):
        fit.step()
        chain = [torch.tensor(ENDS[0]), *fit.bends.vectors, torch.tensor(ENDS[1])]
        lengths = [float((b - a).norm()) for a, b in pairwise(chain)]
        before = torch.stack(fit.bends.vectors)
    # A corner cut by setting pivots back to the chain makes pieces differ in second order only.
    assert max(lengths) / min(lengths) < 1.2
    losses = fit._gradients()
    fit._across(losses)
    around = [fit._end_losses[0], *losses, fit._end_losses[1]]
    for i, pivot in enumerate(fit.bends.vectors, start=1):
        ahead = around[i + 1] >= around[i - 1]
        tangent = chain[i + 1] - chain[i] if ahead else chain[i] - chain[i - 1]
        assert pivot.grad is not None
        assert abs(float(pivot.grad @ tangent)) < 1e-12
    assert torch.equal(before, torch.stack(fit.bends.vectors))


@pytest.mark.slow
def test_pivots_are_inserted_before_every_cycle_but_the_first() -> None:
    fit = band(geo.CurveFitConfig("neb", 1, steps=160, learning_rate=0.05))
    counts = []
    for _ in range(160):
        fit.step()
        counts.append(len(fit.places))
    assert counts[:40] == [1] * 40
    assert counts[40] == 3
    grown = {i for i in range(1, 160) if counts[i] != counts[i - 1]}
    assert grown <= {40, 80, 120}


def test_an_inserted_pivot_lies_on_the_chain() -> None:
    fit = band(geo.CurveFitConfig("neb", 1, steps=40, learning_rate=0.05))
    for _ in range(10):
        fit.step()
    chain = [torch.tensor(end, dtype=torch.float64) for end in ENDS]
    chain.insert(1, fit.bends.vectors[0].clone())
    fit._insert()
    for t, pivot in zip(fit.places, fit.bends.vectors, strict=True):
        (piece, share) = respaced([0.5, 0.5], [t])[0]
        expected = torch.lerp(chain[piece], chain[piece + 1], share)
        torch.testing.assert_close(pivot, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (5.0, 1.0), (-3.0, 20.0)])
def test_pivots_are_missing_where_a_piece_rises_by_a_fifth_of_the_range(
    shift: float, scale: float
) -> None:
    high, low = EXCESS + 0.01, EXCESS - 0.01
    dense = {0.0: 0.0, 0.2: high, 0.3: 0.1, 0.5: 0.0, 0.7: low, 0.8: 1.0, 1.0: 0.0}
    moved = {t: shift + scale * loss for t, loss in dense.items()}
    assert missing(moved, [0.0, 0.5, 0.8, 1.0]) == [0.2]


def test_respaced_is_interpolation_by_length() -> None:
    lengths, places = [0.3, 2.0, 0.7], [0.0, 0.1, 0.5, 0.9, 1.0]
    ends = np.cumsum([0.0, *lengths])
    for place, (piece, share) in zip(places, respaced(lengths, places), strict=True):
        assert ends[piece] + share * lengths[piece] == pytest.approx(place * 3.0)
    assert respaced([0.0, 1.0], [0.0])[0] in {(0, 0.0), (1, 0.0)}


class _Stopping(Silent):
    """Interrupts a fit after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def advance(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_chain_goes_on_to_the_same_result(tmp_path: Path) -> None:
    fitting = geo.CurveFitConfig("neb", steps=120, learning_rate=0.05, restarts=2)

    def fitted(out: Path | None, progress: Silent | None = None) -> geo.Result:
        ends = [Point(*end) for end in ENDS]
        return geo.fit_path(
            ends, out, train_data=rings(), fitting=fitting, data=rings(), progress=progress
        )

    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "way", _Stopping(70))
    assert (tmp_path / "way.partial" / "fit.safetensors").is_file()
    found, whole = fitted(tmp_path / "way"), fitted(None)
    first, second = (
        result.measurements.model_copy(update={"seconds": 0.0}) for result in (found, whole)
    )
    assert first == second
    assert found.route.key == whole.route.key
