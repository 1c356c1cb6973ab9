"""Momentum-SAM and LookSAM, against loops over parameters that are written from the papers."""

import math
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mergekit_geo.config.training import SamArguments
from mergekit_geo.errors import ArgumentError, UnsupportedError
from mergekit_geo.training.sam import Sam
from tests.training import naive
from tests.training.test_sam import Batch, adamw, batches, gradients, mean_loss, network, same, sgd

MOMENTUM = SamArguments(variant="momentum", rho=0.3)
LOOK = SamArguments(variant="look", rho=0.3, every=3, alpha=0.6)
Make = Callable[[nn.Module], torch.optim.Optimizer]


def double(batch: Batch) -> Batch:
    return batch[0].double(), batch[1]


def trained(make: Make, settings: SamArguments, steps: int = 7) -> tuple[nn.Module, Sam]:
    """In float64, with clipping."""
    model = network().double()
    optimizer = make(model)
    sam = Sam(model, optimizer, settings)
    for batch in batches(steps):
        sam.backward(partial(mean_loss, model), double(batch))
        nn.utils.clip_grad_norm_(model.parameters(), 0.2)
        optimizer.step()
        optimizer.zero_grad()
    return model, sam


def truth(make: Make, gradient_of: Callable[..., list[Tensor]], steps: int = 7) -> nn.Module:
    """A training whose gradients a function gives: of step, model, optimizer and loss."""
    model = network().double()
    optimizer = make(model)
    for step, batch in enumerate(batches(steps)):
        found = gradient_of(step, model, optimizer, partial(mean_loss, batch=double(batch)))
        for parameter, gradient in zip(model.parameters(), found, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(model.parameters(), 0.2)
        optimizer.step()
    return model


def close(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.allclose(a, b, rtol=1e-9, atol=1e-11) for a, b in pairs)


@pytest.mark.parametrize("make", [sgd, adamw])
@pytest.mark.parametrize("adaptive", [False, True])
def test_momentum_is_that_of_the_paper(make: Make, adaptive: bool) -> None:
    """Its code undoes the perturbation after the optimizer's step, which is the same gradient."""
    found, sam = trained(make, SamArguments(variant="momentum", rho=0.3, adaptive=adaptive))
    expected = truth(make, partial(naive.ahead_gradient, rho=0.3, adaptive=adaptive))
    assert close(found, expected)
    assert (sam.summary.steps, sam.summary.ascents, sam.summary.backward_passes) == (7, 6, 7)
    assert sam.mode == "synchronised"


@pytest.mark.parametrize("make", [sgd, adamw])
@pytest.mark.parametrize("adaptive", [False, True])
def test_look_is_that_of_the_paper(make: Make, adaptive: bool) -> None:
    settings = SamArguments(variant="look", rho=0.3, every=3, alpha=0.6, adaptive=adaptive)
    found, sam = trained(make, settings)
    look = naive.Look(rho=0.3, every=3, alpha=0.6, adaptive=adaptive)
    assert close(found, truth(make, look.gradient))
    assert (sam.summary.steps, sam.summary.ascents, sam.summary.backward_passes) == (7, 3, 10)


def test_what_is_used_again_is_orthogonal_and_as_long_as_alpha_says() -> None:
    model, (first, second) = network().double(), batches(2)
    sam = Sam(model, sgd(model), LOOK)
    sam.backward(partial(mean_loss, model), double(first))
    plain = naive.gradient(model, partial(mean_loss, batch=double(first)))
    flat = lambda parts: torch.cat([part.flatten() for part in parts])  # noqa: E731
    assert abs(flat(sam.reused.state()) @ flat(plain)) < 1e-15
    model.zero_grad()
    sam.backward(partial(mean_loss, model), double(second))
    plain = naive.gradient(model, partial(mean_loss, batch=double(second)))
    added = flat(gradients(model)) - flat(plain)
    assert float(added.norm() / flat(plain).norm()) == pytest.approx(0.6, rel=1e-12)


def test_groups_with_their_own_rho_look_ahead_as_far() -> None:
    """A radius of the ellipsoid each, and none at 0; the momentum itself is left alone."""
    model, (first, second) = network().double(), batches(2)
    groups = [{"params": model[0].parameters(), "rho": 0.2}]
    groups += [{"params": [model[2].weight], "rho": 0.0}, {"params": [model[2].bias]}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    sam = Sam(model, optimizer, SamArguments(variant="momentum", rho=0.4))
    sam.backward(partial(mean_loss, model), double(first))
    optimizer.step()
    optimizer.zero_grad()
    momentum = [optimizer.state[p]["momentum_buffer"].clone() for p in model.parameters()]
    steps = naive.ascent(model, momentum, [0.5, 0.5, 0.0, 1.0], 0.4)
    at = [p - step for p, step in zip(model.parameters(), steps, strict=True)]
    seen: list[Tensor] = []

    def loss(batch: Batch) -> Tensor:
        seen.extend(p.detach().clone() for p in model.parameters())
        return mean_loss(model, batch)

    sam.backward(loss, double(second))
    for found, expected in zip(seen, at, strict=True):
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)
    for parameter, kept in zip(model.parameters(), momentum, strict=True):
        assert torch.equal(optimizer.state[parameter]["momentum_buffer"], kept)


@pytest.mark.parametrize("settings", [MOMENTUM, LOOK])
def test_accumulated_micro_batches_are_one_batch(settings: SamArguments) -> None:
    once, often = network().double(), network().double()
    single, several = adamw(once), adamw(often)
    sam, other = Sam(once, single, settings), Sam(often, several, settings)
    home = [p.detach().clone() for p in often.parameters()]
    for batch in map(double, batches(4, size=12)):
        sam.backward(partial(mean_loss, once), batch)
        for part in range(3):
            assert all(torch.equal(p, at) for p, at in zip(often.parameters(), home, strict=True))
            rows = (batch[0][part::3], batch[1][part::3])
            other.backward(lambda rows: mean_loss(often, rows) / 3, rows, last=part == 2)
        single.step()
        several.step()
        home = [p.detach().clone() for p in often.parameters()]
        single.zero_grad()
        several.zero_grad()
    assert close(once, often)
    assert other.summary.backward_passes == 3 * sam.summary.backward_passes


@pytest.mark.parametrize("settings", [MOMENTUM, LOOK])
def test_rho_0_is_the_base_optimizer(settings: SamArguments) -> None:
    model, plain = network(noisy=True), network(noisy=True)
    optimizer, base = adamw(model), adamw(plain)
    sam = Sam(model, optimizer, SamArguments(rho=0.0, variant=settings.variant, every=3))
    for batch in batches(5):
        torch.manual_seed(1)
        sam.backward(partial(mean_loss, model), batch)
        torch.manual_seed(1)
        mean_loss(plain, batch).backward()
        for one in (optimizer, base):
            one.step()
            one.zero_grad()
    assert same(model, plain)
    assert (sam.summary.ascents, sam.summary.backward_passes) == (0, 5)


@pytest.mark.parametrize("settings", [MOMENTUM, LOOK])
def test_running_statistics_are_updated_once_a_step(settings: SamArguments) -> None:
    model = network(noisy=True)
    optimizer = adamw(model)
    sam = Sam(model, optimizer, settings)
    for batch in batches(4):
        sam.backward(partial(mean_loss, model), batch)
        optimizer.step()
        optimizer.zero_grad()
    assert model[1].num_batches_tracked == 4


def test_every_other_step_may_look_ahead() -> None:
    _, sam = trained(sgd, SamArguments(variant="momentum", every=2))
    assert (sam.summary.steps, sam.summary.ascents) == (7, 3)  # 2, 4 and 6


def test_a_climb_that_is_not_finite_is_made_again_at_the_next_step() -> None:
    """What it left is not used; the schedule goes on."""
    model = network()
    optimizer = adamw(model)
    sam, calls = Sam(model, optimizer, LOOK), iter(range(100))

    def loss(batch: Batch) -> Tensor:
        return mean_loss(model, batch) * (math.nan if next(calls) == 1 else 1.0)

    climbed = []
    for batch in batches(5):
        before = sam.summary.ascents
        sam.backward(loss, batch)
        climbed.append(sam.summary.ascents - before)
        optimizer.step()
        optimizer.zero_grad()
    assert climbed == [1, 1, 0, 1, 0]
    assert sam.summary.skipped == 1
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("settings", [MOMENTUM, LOOK])
def test_the_scale_of_a_scaler_does_not_matter(settings: SamArguments) -> None:
    """Powers of two, that change from step to step."""
    ends = []
    for scale in (1.0, 2.0**12):
        model = network().double()
        optimizer = adamw(model)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2)
        sam = Sam(model, optimizer, settings, scaler=scaler)
        for batch in map(double, batches(5)):
            sam.backward(partial(mean_loss, model), batch)
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        ends.append(model)
    assert close(*ends)


@pytest.mark.parametrize("settings", [MOMENTUM, LOOK])
def test_a_resumed_loop_ends_with_the_same_bits(settings: SamArguments) -> None:
    """Between a climb and the next one."""

    def go_on(model: nn.Module, optimizer: Any, sam: Sam, few: list[Batch]) -> None:
        for batch in few:
            sam.backward(partial(mean_loss, model), batch)
            optimizer.step()
            optimizer.zero_grad()

    rows, model = batches(6), network()
    optimizer = adamw(model)
    sam = Sam(model, optimizer, settings)
    go_on(model, optimizer, sam, rows[:2])
    again, state = network(seed=1), sam.state_dict()
    second = adamw(again)
    again.load_state_dict(model.state_dict())
    second.load_state_dict(deepcopy(optimizer.state_dict()))
    resumed = Sam(again, second, settings)
    resumed.load_state_dict(state)
    for one in ((model, optimizer, sam), (again, second, resumed)):
        go_on(*one, rows[2:])
    assert same(model, again)
    assert resumed.summary == sam.summary


def test_a_state_of_another_model() -> None:
    model, other = network(), nn.Linear(5, 3)
    sam = Sam(model, sgd(model), LOOK)
    sam.backward(partial(mean_loss, model), batches(1)[0])
    with pytest.raises(ArgumentError, match=r"state is of 4 tensors, and this model trains 2"):
        Sam(other, sgd(other), LOOK).load_state_dict(sam.state_dict())


def test_where_all_is_linear_nothing_is_used_again() -> None:
    """g_s is g there, and what is left of it is rounding."""
    model = nn.Linear(5, 1, bias=False)
    optimizer = sgd(model)
    sam = Sam(model, optimizer, LOOK)
    for batch in batches(2):
        optimizer.zero_grad()
        sam.backward(lambda batch: model(batch[0]).sum(), batch)
    assert torch.allclose(gradients(model)[0], batch[0].sum(0)[None], rtol=1e-6)


def test_weights_come_back_to_the_bit_when_the_pass_ahead_fails() -> None:
    model = network()
    optimizer = adamw(model)
    sam, batch = Sam(model, optimizer, MOMENTUM), batches(1)[0]
    sam.backward(partial(mean_loss, model), batch)
    optimizer.step()
    home = [p.detach().clone() for p in model.parameters()]

    def loss(_: Any) -> Tensor:
        assert not torch.equal(model[0].weight, home[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sam.backward(loss, batch)
    assert all(torch.equal(p, at) for p, at in zip(model.parameters(), home, strict=True))


def test_an_optimizer_without_momentum() -> None:
    model = network()
    plain = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ArgumentError, match=r"needs an optimizer with momentum, found SGD"):
        Sam(model, plain, MOMENTUM)
    adam = torch.optim.AdamW(model.parameters(), betas=(0.0, 0.9))
    with pytest.raises(ArgumentError, match=r"parameter group 0.*found AdamW"):
        Sam(model, adam, MOMENTUM)


def test_momentum_that_is_kept_in_another_way() -> None:
    model = network()
    optimizer = adamw(model)
    sam = Sam(model, optimizer, MOMENTUM)
    optimizer.state[model[0].weight] = {"state1": torch.zeros(3)}
    with pytest.raises(UnsupportedError, match=r"under exp_avg or momentum_buffer.*state1"):
        sam.backward(partial(mean_loss, model), batches(1)[0])


def test_settings_that_cannot_be_meant() -> None:
    with pytest.raises(ArgumentError, match=r"'msam': expected one of sam, momentum, look"):
        SamArguments(variant="msam")
    with pytest.raises(ArgumentError, match=r"with every=1 no step is in between.*every=5"):
        SamArguments(variant="look")
    with pytest.raises(ArgumentError, match=r"all processes have the same momentum"):
        SamArguments(variant="momentum", ascent="per-replica")
    for alpha in (-0.1, math.nan, math.inf):
        with pytest.raises(ArgumentError, match=r"sam-alpha: expected a number of at least 0"):
            SamArguments(alpha=alpha)
