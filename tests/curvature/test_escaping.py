"""Ways out of critical points that are known, and none out of a minimum, in 20 seeds each."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mergekit_geo.config.escape import EscapeConfig
from mergekit_geo.curvature.critical import TrainingLoss, critical_point, require_memory, standing
from mergekit_geo.curvature.descent import Constants, Descent, DescentState, in_ball
from mergekit_geo.curvature.escape_state import EscapeState
from mergekit_geo.curvature.escaping import Escaping
from mergekit_geo.curvature.line_search import HeldOut, line_search
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.errors import ArgumentError, DataError, UnsupportedError
from mergekit_geo.evaluation.batches import Shuffled
from mergekit_geo.evaluation.objective import FunctionObjective
from mergekit_geo.outputs.kind import ESCAPE_STATE
from mergekit_geo.records.escape import EscapeEntry
from tests.curvature.saddles import (
    Pair,
    flat_loss,
    linear_data,
    linear_network,
    squared_error,
    tanh_saddle,
)

SEEDS = range(20)
SHORT = EscapeConfig(steps=8)


def training(model: nn.Module, batch: Pair, whole: bool = True) -> TrainingLoss:
    objective = FunctionObjective(squared_error, [batch])
    return TrainingLoss(MeanLoss(model, objective.batches()), objective, whole)


def escaped(
    model: nn.Module, batch: Pair, seed: int, settings: EscapeConfig = SHORT
) -> EscapeEntry:
    return Escaping(training(model, batch), settings, seed).run()


# --- what must be reached


def test_two_linear_layers_at_zero_are_a_saddle_and_left() -> None:
    for seed in SEEDS:
        dtype = (torch.float32, torch.float64)[seed % 2]
        model, (inputs, targets) = linear_network((4, 3, 3), dtype), linear_data(seed, dtype)
        found = escaped(model, (inputs, targets), seed)
        top = torch.linalg.svdvals(targets.T @ inputs / len(inputs))[0]
        assert found.before.lambda_min == pytest.approx(-float(top), rel=1e-4)
        assert found.before.lambda_max == pytest.approx(float(top), rel=1e-4)
        assert found.verdict.kind == "escaped", found.verdict
        assert found.change < -0.1 * found.before.loss
        assert found.step is not None
        assert found.step.change < 0
        assert found.verdict.sentence.startswith("escaped a saddle: training loss fell by")


def test_a_saddle_of_a_tanh_network_is_left() -> None:
    """Damped Newton found it, and the whole spectrum says what it is."""
    model, batch, eigenvalues = tanh_saddle(11)
    home = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    for seed in SEEDS:
        nn.utils.vector_to_parameters(home.clone(), model.parameters())
        found = escaped(model, batch, seed, EscapeConfig(steps=4))
        off = abs(found.before.lambda_min - float(eigenvalues[0]))
        assert off <= found.before.lambda_min_residual + 1e-9
        assert found.before.gradient_norm < 1e-9
        assert found.verdict.kind == "escaped", found.verdict
        loss, there = flat_loss(model, batch)
        assert float(loss(there)) == pytest.approx(found.before.loss + found.change)
        assert found.change < -0.1 * found.before.loss


@pytest.mark.slow
def test_three_linear_layers_at_zero_are_degenerate_and_descent_goes_on() -> None:
    for seed in SEEDS:
        model, batch = linear_network((4, 3, 3, 3)), linear_data(seed)
        found = escaped(model, batch, seed, EscapeConfig(steps=25, lanczos_steps=10))
        assert found.verdict.kind == "degenerate"
        assert found.verdict.sentence.startswith("degenerate: second order cannot tell")
        assert "perturbed descent left it" in found.verdict.sentence, found.verdict
        assert found.before.lambda_max == found.before.lambda_min == 0
        assert found.step is None
        assert found.descent is not None
        assert found.descent.perturbed[0] == 0
        assert found.change < -0.02 * found.before.loss


def minimum(seed: int) -> tuple[nn.Module, FunctionObjective]:
    """Logistic regression with an L2 term, at its minimum by Newton's method."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(30, 6, generator=draw, dtype=torch.float64)
    signs = torch.randn(30, generator=draw, dtype=torch.float64).sign()

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        rows = batch.long()
        logits = signs[rows] * model(inputs[rows]).squeeze(1)
        return nn.functional.softplus(-logits) + 0.05 * model.weight.square().sum()

    model = nn.Linear(6, 1, bias=False).double()
    at = torch.zeros(6, dtype=torch.float64)
    for _ in range(12):
        share = torch.sigmoid(-signs * (inputs @ at))
        slope = -(signs * share) @ inputs / 30 + 0.1 * at
        bends = (inputs * (share * (1 - share))[:, None]).T @ inputs / 30
        at = at - torch.linalg.solve(bends + 0.1 * torch.eye(6, dtype=torch.float64), slope)
    nn.init.zeros_(model.weight)
    with torch.no_grad():
        model.weight.copy_(at[None])
    return model, FunctionObjective(loss, torch.arange(30.0).split(5))


def test_a_minimum_is_never_called_a_saddle() -> None:
    for seed in SEEDS:
        model, objective = minimum(seed)
        whole = seed % 2 == 0
        before = [p.clone() for p in model.parameters()]
        at = TrainingLoss(MeanLoss(model, objective.batches()), objective, whole)
        found = Escaping(at, SHORT, seed, HeldOut(objective, model, seed)).run()
        allowed = {"no negative curvature"} if whole else {"no negative curvature", "cannot tell"}
        assert found.verdict.kind in allowed
        assert found.step is found.descent is found.after is None
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


# --- verdicts


def test_away_from_critical_points_nothing_is_left() -> None:
    model = linear_network((4, 3, 3))
    for p in model.parameters():
        nn.init.constant_(p, 0.5)
    found = escaped(model, linear_data(0), 0)
    assert found.verdict.kind == "not at a critical point"
    assert "the gradient has a norm of" in found.verdict.sentence
    assert "geo-merge finetune" in found.verdict.advice
    assert found.step is None
    given = EscapeConfig(gradient_threshold=1e6, steps=2)
    assert escaped(model, linear_data(0), 0, given).verdict.kind != "not at a critical point"


def test_a_maximum_is_left() -> None:
    """No eigenvalue is positive there."""
    model = nn.Linear(2, 1, bias=False).double()
    nn.init.zeros_(model.weight)

    def bump(model: nn.Module, batch: Tensor) -> Tensor:
        return (-(model.weight**2).sum()).exp().expand(len(batch))

    objective = FunctionObjective(bump, [torch.ones(3)])
    at = TrainingLoss(MeanLoss(model, objective.batches()), objective, True)
    found = Escaping(at, SHORT, 0).run()
    assert found.before.lambda_max == pytest.approx(-2)
    assert found.verdict.kind == "escaped"


def test_a_direction_that_held_out_data_does_not_share_is_not_taken() -> None:
    model, batch = linear_network((4, 3, 3)), linear_data(0)
    other = FunctionObjective(squared_error, [(batch[0], -batch[1])])
    held = HeldOut(other, model, 0)
    found = Escaping(training(model, batch), SHORT, 0, held).run()
    assert found.verdict.kind == "no negative curvature"
    assert "that held-out examples share" in found.verdict.sentence
    assert found.step is not None
    assert found.step.checked == "not lower"
    assert not any(p.any() for p in model.parameters())
    shared = HeldOut(FunctionObjective(squared_error, [batch]), model, 0)
    found = Escaping(training(model, batch), SHORT, 0, shared).run()
    assert found.verdict.kind == "escaped"
    assert found.held_out is not None
    assert found.held_out.value == pytest.approx(found.change, rel=0.5)
    assert 5 <= found.held_out_examples < 24  # the report half
    assert "held-out loss fell by" in found.verdict.sentence


def test_a_step_that_held_out_data_cannot_tell_of_is_not_taken() -> None:
    model, (inputs, targets) = linear_network((4, 3, 3)), linear_data(0)
    draw = torch.Generator().manual_seed(1)
    noise = 40 * torch.randn(24, 3, generator=draw, dtype=torch.float64)
    held = HeldOut(FunctionObjective(squared_error, [(inputs, targets + noise)]), model, 0)
    found = Escaping(training(model, (inputs, targets)), SHORT, 0, held).run()
    assert found.step is not None
    assert found.step.checked in {"cannot tell", "not lower"}
    assert found.verdict.kind in {"cannot tell", "no negative curvature"}
    assert not any(p.any() for p in model.parameters())


def test_sgd_and_nothing_may_follow_the_step() -> None:
    model, batch = linear_network((4, 3, 3)), linear_data(0)
    alone = escaped(model, batch, 0, EscapeConfig(then="none"))
    assert alone.verdict.kind == "escaped"
    assert alone.descent is None
    assert alone.step is not None
    assert alone.change == pytest.approx(alone.step.change)
    model = linear_network((4, 3, 3))
    inputs, targets = batch
    parts = [(inputs[i : i + 6], targets[i : i + 6]) for i in range(0, 24, 6)]
    order = Shuffled(FunctionObjective(squared_error, parts), 6, 0)
    settings = EscapeConfig(then="sgd", steps=20)
    found = Escaping(training(model, batch), settings, 0, everything=order).run()
    assert found.descent is not None
    assert (found.descent.method, found.descent.steps, found.descent.radius) == ("sgd", 20, None)
    assert found.change < alone.change
    third = linear_network((4, 3, 3, 3))
    stays = Escaping(training(third, batch), settings, 0, everything=order).run()
    assert stays.change == 0
    assert "SGD did not leave it" in stays.verdict.sentence
    assert "--then perturbed" in stays.verdict.advice


# --- the line search


def test_both_directions_are_looked_at_and_the_best_length_is_near_the_best() -> None:
    """L = w^4 - 2 w^2 + w^3: the lower well is on the left."""

    def well(model: nn.Module) -> tuple[Tensor, Tensor]:
        w = model.weight[0]
        return w**4 - 2 * w**2 + w**3, torch.ones(1)

    model = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    found = line_search(
        MeanLoss(model, [well]), torch.ones(1, dtype=torch.float64), -4.0, 1e-3, None
    )
    lengths = [one.length for one in found.curve]
    assert lengths == sorted(lengths)
    assert min(lengths) < -1 < 0.5 < max(lengths)
    best = (-3 - math.sqrt(9 + 64)) / 8
    assert found.length == pytest.approx(best, rel=0.25)
    lowest = best**4 - 2 * best**2 + best**3
    assert found.change < 0.9 * lowest
    assert not model.weight.any()


# --- perturbed descent


def naive(
    slope: Callable[[Tensor], Tensor], loss: Callable[[Tensor], Tensor], at: Tensor,
    constants: Constants, timeout: int, steps: int, seed: int,
) -> Tensor:  # fmt: skip
    """Jin 2017, algorithm 2, with a constant step."""
    rate, noted, kept, height = constants.rate, -timeout - 1, at, 0.0
    for t in range(steps):
        small = math.sqrt(2 * constants.fall / rate)
        if t - noted == timeout and float(loss(at)) - height > -constants.fall:
            return kept
        if float(slope(at).norm()) <= small and t - noted > timeout:
            kept, height, noted = at, float(loss(at)), t
            at = at + in_ball(len(at), constants.radius, at.dtype, seed * 1_000_003 + t)
        at = at - rate * slope(at)
    return at


def test_perturbed_descent_is_that_of_the_paper() -> None:
    model, batch, _ = tanh_saddle(11)
    loss, home = flat_loss(model, batch)
    for radius, timeout, steps in ((1e-4, 5, 12), (0.1, 12, 30)):
        constants = Constants(rate=0.4, fall=1e-3, radius=radius)
        nn.utils.vector_to_parameters(home.clone(), model.parameters())
        settings = EscapeConfig(timeout=timeout, steps=steps)
        state = DescentState(0.4)
        descent = Descent(training(model, batch).mean, settings, constants, state, seed=3)
        descent.run(lambda: None)
        expected = naive(torch.func.grad(loss), loss, home, constants, timeout, steps, 3)
        found = nn.utils.parameters_to_vector(model.parameters()).detach()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
        assert state.rate == 0.4
        assert state.perturbed[0] == 0
        assert state.stopped == ("time-out" if timeout == 5 else "steps")


def test_a_step_that_would_raise_the_loss_is_halved() -> None:
    model, batch = linear_network((4, 3)), linear_data(0)
    settings = EscapeConfig(steps=30)
    at = training(model, batch)
    state = DescentState(1e3)
    Descent(at.mean, settings, Constants(1e3, 1e-3, 0.1, 1e-12), state, 0).run(lambda: None)
    losses = [loss for _, loss, _ in state.history]
    assert state.rate < 3
    assert all(b <= a * (1 + 1e-12) for a, b in pairwise(losses))
    assert losses[-1] < 1e-3 * losses[0]


def test_an_exploding_loss_is_told() -> None:
    model, batch = linear_network((4, 3, 3)), linear_data(0)
    settings = EscapeConfig(then="sgd", steps=60, learning_rate=1e4)
    order = Shuffled(FunctionObjective(squared_error, [batch]), 6, 0)
    with pytest.raises(DataError, match="not a number"):
        Escaping(training(model, batch), settings, 0, everything=order).run()


# --- interruptions


class Stopping(EscapeState):
    """Stops after so many saves."""

    def __init__(self, folder: Path, left: int) -> None:
        super().__init__(folder, fsync=False)
        self.left = left

    def save(self, *given: object) -> None:
        super().save(*given)  # type: ignore[arg-type]
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("widths", [(4, 3, 3), (4, 3, 3, 3)])
def test_an_interrupted_escape_goes_on_to_the_same_bits(
    tmp_path: Path, widths: tuple[int, ...]
) -> None:
    settings, batch = EscapeConfig(steps=12, save_every=3, timeout=4), linear_data(5)

    def run(state: EscapeState) -> tuple[str, list[Tensor]]:
        model = linear_network(widths, torch.float32)
        at = training(model, linear_data(5, torch.float32))
        held = HeldOut(at.objective, model, 0)
        entry = Escaping(at, settings, 1, held, state=state).run()
        return entry.model_dump_json(), [p.detach() for p in model.parameters()]

    assert batch[0].dtype == torch.float64
    whole, weights = run(EscapeState(None))
    for stop in range(1, 7):
        folder = tmp_path / str(stop)
        folder.mkdir()
        with pytest.raises(KeyboardInterrupt):
            run(Stopping(folder, stop))
        again, found = run(EscapeState(folder, fsync=False))
        assert again == whole
        assert all(torch.equal(a, b) for a, b in zip(weights, found, strict=True))
    (folder / ESCAPE_STATE).write_bytes(b"torn")
    assert run(EscapeState(folder, fsync=False))[0] == whole


# --- what is refused, and small matters


def test_settings_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ArgumentError, match="radius must be a number above 0, found -1"):
        EscapeConfig(radius=-1.0)
    with pytest.raises(ArgumentError, match="expected one of perturbed, sgd, none"):
        EscapeConfig(then="adam")
    with pytest.raises(ArgumentError, match="timeout"):
        EscapeConfig(timeout=0)


def test_a_basis_that_memory_does_not_hold_is_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    class Little:
        available = 100

    monkeypatch.setattr("psutil.virtual_memory", Little)
    with pytest.raises(UnsupportedError, match=r"40 Lanczos steps need .* of memory"):
        require_memory(training(linear_network((4, 3)), linear_data(0)).mean, 40)


def test_a_sample_tells_by_its_noise_whether_it_is_critical() -> None:
    """Of the same point, all data say that the gradient matters, and a few examples cannot."""
    model, objective = minimum(0)
    with torch.no_grad():
        model.weight[0, 0] += 0.4
    mean = MeanLoss(model, objective.batches())
    found, _ = critical_point(TrainingLoss(mean, objective, True), EscapeConfig(), 0)
    verdict = standing(found)
    assert verdict is not None
    assert verdict.kind == "not at a critical point"
    found, _ = critical_point(TrainingLoss(mean, objective, False), EscapeConfig(), 0)
    assert found.threshold is None
    assert found.squared_norm_error is not None
    verdict = standing(found)
    assert verdict is not None
    assert verdict.kind == "cannot tell"
