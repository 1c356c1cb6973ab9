"""Fitting a curve, against gradients and training loops written out."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from mergekit_geo.checkpoints.memory import of_module
from mergekit_geo.config.training import CurveFitConfig
from mergekit_geo.connectivity.curves import Bends
from mergekit_geo.connectivity.fit import Fit
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.evaluation.batches import Shuffled
from mergekit_geo.evaluation.objective import FunctionObjective
from mergekit_geo.geometry.curves import Still, curve_of, rule_at
from mergekit_geo.modules.blend import InPlace, module_names


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Dropout(0.0), nn.Linear(5, 3)).double()


def batches(count: int = 4) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(7, 6, generator=draw, dtype=torch.float64),
            torch.randint(3, (7,), generator=draw),
        )
        for _ in range(count)
    ]


def losses_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def fit_of(
    settings: CurveFitConfig,
    seed: int = 0,
    function: object = losses_of,
    ends: tuple[int, int] = (1, 2),
) -> Fit:
    live_model = network(0)
    checkpoints = [of_module(network(i), f"end {i}") for i in ends]
    names = module_names(live_model, checkpoints[0])
    assert names is not None
    live = InPlace(live_model, names)
    bends = Bends(checkpoints, curve_of(settings.kind, settings.corners), live)
    objective = FunctionObjective(function, batches())  # type: ignore[arg-type]
    return Fit(bends, live, Shuffled(objective, 1, seed), settings, seed)


@pytest.mark.parametrize(("kind", "bends"), [("bezier", 1), ("bezier", 3), ("polygon", 2)])
def test_gradient_of_the_bends_is_that_of_finite_differences(kind: str, bends: int) -> None:
    fit = fit_of(CurveFitConfig(kind, bends, steps=1, optimizer="sgd", learning_rate=1.0, clip=1e9))
    t = fit.t_of(0)
    curve = fit.bends.curve
    (piece,) = fit.gradient.own_batches(0)
    before = [vector.clone() for vector in fit.bends.vectors]

    def loss() -> float:
        fit.live.put(fit.bends.at(rule_at(curve, t)))
        with torch.no_grad():
            values, weights = piece(fit.live.model)
        return float(values @ weights / weights.sum())

    draw = torch.Generator().manual_seed(3)
    directions = [
        torch.randn(v.shape, generator=draw, dtype=torch.float64) for v in fit.bends.vectors
    ]
    found = []
    for sign in (1e-5, -1e-5):
        for vector, start, direction in zip(fit.bends.vectors, before, directions, strict=True):
            vector.copy_(start + sign * direction)
        found.append(loss())
    slope = (found[0] - found[1]) / 2e-5
    for vector, start in zip(fit.bends.vectors, before, strict=True):
        vector.copy_(start)
    fit.step()
    rate = fit.optimizer.param_groups[0]["lr"] * 1.9  # Nesterov's first step is 1.9 gradients
    moved = [(b - v) / rate for b, v in zip(before, fit.bends.vectors, strict=True)]
    expected = sum(float(m @ d) for m, d in zip(moved, directions, strict=True))
    assert slope == pytest.approx(expected, rel=1e-6)


def test_steps_are_those_of_curve_layers_written_out() -> None:
    """Weights computed inside the forward pass, as in Garipov's code; Adam on the bend itself."""
    settings = CurveFitConfig(steps=12, learning_rate=0.05, clip=1e9)
    fit = fit_of(settings)
    ends = [dict(network(i).named_parameters()) for i in (1, 2)]
    bend = {
        name: ((ends[0][name] + ends[1][name]) / 2).detach().requires_grad_() for name in ends[0]
    }
    optimizer = torch.optim.AdamW(bend.values(), lr=0.05, weight_decay=0.0)
    model = network(0)
    for step in range(12):
        t, (piece,) = fit.t_of(step), fit.gradient.own_batches(step)
        batch = piece.args[0]  # type: ignore[attr-defined]
        weights = {
            name: (1 - t) ** 2 * ends[0][name].detach()
            + 2 * t * (1 - t) * bend[name]
            + t**2 * ends[1][name].detach()
            for name in bend
        }
        logits = functional_call(model, weights, batch[0])
        loss = nn.functional.cross_entropy(logits, batch[1])
        optimizer.zero_grad()
        loss.backward()
        assert fit.step() == pytest.approx(loss.item(), rel=1e-9)
        optimizer.param_groups[0]["lr"] = fit.optimizer.param_groups[0]["lr"]
        optimizer.step()
    flat = torch.cat([bend[name].detach().reshape(-1) for name in bend])
    torch.testing.assert_close(fit.bends.vectors[0], flat, rtol=1e-9, atol=1e-12)


def test_ends_of_a_fitted_curve_are_the_models_to_the_bit() -> None:
    fit = fit_of(CurveFitConfig(steps=3, learning_rate=0.1))
    for _ in range(3):
        fit.step()
    for t, seed in ((0.0, 1), (1.0, 2)):
        fit.live.put(fit.bends.at(rule_at(fit.bends.curve, t)))
        pairs = zip(fit.live.model.parameters(), network(seed).parameters(), strict=True)
        assert all(torch.equal(here, there) for here, there in pairs)


def test_zero_steps_are_the_segment() -> None:
    fit = fit_of(CurveFitConfig(bends=2, steps=0))
    ends = [torch.cat([p.reshape(-1) for p in network(i).parameters()]) for i in (1, 2)]
    for t in (0.2, 0.5, 0.9):
        fit.live.put(fit.bends.at(rule_at(fit.bends.curve, t)))
        here = torch.cat([p.reshape(-1) for p in fit.live.model.parameters()])
        torch.testing.assert_close(here, (1 - t) * ends[0] + t * ends[1], rtol=0, atol=1e-14)


def test_clipping_is_of_the_scaled_gradient() -> None:
    settings = CurveFitConfig(steps=1, optimizer="sgd", learning_rate=1.0, clip=1e-3)
    fit = fit_of(settings)
    before = fit.bends.vectors[0].clone()
    fit.step()
    rate = fit.optimizer.param_groups[0]["lr"] * 1.9
    assert float((fit.bends.vectors[0] - before).norm()) == pytest.approx(1e-3 * rate, rel=1e-9)


def test_accumulation_is_one_larger_batch() -> None:
    whole = FunctionObjective(losses_of, [tuple(map(torch.cat, zip(*batches(), strict=True)))])  # type: ignore[list-item]
    steps = CurveFitConfig(steps=4, learning_rate=0.05)
    found = []
    for objective, count in ((FunctionObjective(losses_of, batches()), 4), (whole, 1)):
        settings = CurveFitConfig(steps=4, learning_rate=0.05, accumulation=count)
        fit = fit_of(steps)
        other = Fit(fit.bends, fit.live, Shuffled(objective, 1, 0), settings, 0)
        for _ in range(4):
            other.step()
        found.append(fit.bends.vectors[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)


def test_a_loss_that_is_not_a_number_leaves_the_bends_as_they_were() -> None:
    calls = itertools.count()

    def broken(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return losses_of(model, batch) * (torch.nan if next(calls) == 2 else 1.0)

    fit = fit_of(CurveFitConfig(steps=5, learning_rate=0.05), function=broken)
    fit.step()
    fit.step()
    before = fit.bends.vectors[0].clone()
    with pytest.raises(DataError, match=r"not a number at step 3, t = 0\.\d+.*bends of the step"):
        fit.step()
    assert torch.equal(fit.bends.vectors[0], before)
    assert fit.done == 2


def test_dropout_is_as_trained_and_the_same_again() -> None:
    def fitted() -> Tensor:
        fit = fit_of(CurveFitConfig(steps=3, learning_rate=0.05))
        next(m for m in fit.live.model.modules() if isinstance(m, nn.Dropout)).p = 0.5
        before = torch.random.get_rng_state()
        for _ in range(3):
            fit.step()
        assert torch.equal(before, torch.random.get_rng_state())
        return fit.bends.vectors[0]

    plain = fit_of(CurveFitConfig(steps=3, learning_rate=0.05))
    for _ in range(3):
        plain.step()
    assert torch.equal(fitted(), fitted())
    assert not torch.equal(fitted(), plain.bends.vectors[0])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"kind": "arc"}, "kind 'arc': expected one of bezier, polygon, neb"),
        ({"optimizer": "adam"}, "optimizer 'adam': expected one of adamw, sgd"),
        ({"bends": 0}, "bends must be at least 1, found 0"),
        ({"steps": -1}, "steps must be at least 0, found -1"),
        ({"restarts": 0}, "restarts must be at least 1, found 0"),
        ({"batch_size": 0}, "batch-size must be at least 1, found 0"),
    ],
)
def test_settings_that_cannot_be_meant(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        CurveFitConfig(**setting)  # type: ignore[arg-type]


def test_ends_that_are_streamed_give_the_same_fit() -> None:
    found = []
    for streamed in (False, True):
        fit = fit_of(CurveFitConfig(bends=2, steps=5, learning_rate=0.05))
        assert fit.bends._flat_ends is not None
        if streamed:
            fit.bends._flat_ends = None
        for _ in range(5):
            fit.step()
        found.append(torch.cat(fit.bends.vectors))
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-14)


def test_a_curve_that_stands_still_is_training_from_its_end() -> None:
    """The control of a fitted path, against a loop of AdamW."""
    settings = CurveFitConfig(steps=12, learning_rate=0.05, clip=1e9)
    for end, seed in ((0.0, 1), (1.0, 2)):
        fit = fit_of(settings)
        bends = Bends(fit.bends.ends, Still(end), fit.live)
        objective = FunctionObjective(losses_of, batches())
        control = Fit(bends, fit.live, Shuffled(objective, 1, 0), settings, 0)
        model = network(seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.0)
        for step in range(12):
            (piece,) = control.gradient.own_batches(step)
            losses, weights = piece(model)
            loss = losses @ weights / weights.sum()
            optimizer.zero_grad()
            loss.backward()
            assert control.step() == pytest.approx(loss.item(), rel=1e-9)
            optimizer.param_groups[0]["lr"] = control.optimizer.param_groups[0]["lr"]
            optimizer.step()
        flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
        torch.testing.assert_close(bends.vectors[0], flat, rtol=1e-9, atol=1e-12)
