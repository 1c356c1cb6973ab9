"""SAM's step against the papers' formulas and against the base optimizer."""

import math
import random
from collections.abc import Callable
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mergekit_geo.config.training import SamArguments
from mergekit_geo.training.sam import Sam
from tests.training import naive

Batch = tuple[Tensor, Tensor]


class Point(nn.Module):
    """One vector of parameters."""

    def __init__(self, at: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(at.clone())


def batches(count: int, size: int = 6) -> list[Batch]:
    draw = torch.Generator().manual_seed(7)
    return [
        (torch.randn(size, 5, generator=draw), torch.randint(3, (size,), generator=draw))
        for _ in range(count)
    ]


def network(*, noisy: bool = False, seed: int = 0) -> nn.Sequential:
    """A small classifier; a noisy one has dropout and running statistics."""
    torch.manual_seed(seed)
    between = [nn.BatchNorm1d(8), nn.Dropout(0.3)] if noisy else []
    return nn.Sequential(nn.Linear(5, 8), *between, nn.Tanh(), nn.Linear(8, 3))


def mean_loss(model: nn.Module, batch: Batch) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("rho", [0.05, 3.0])
@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e8])
def test_quadratic(rho: float, scale: float) -> None:
    """The gradient of 1/2 x^T A x is A(x + rho Ax / ||Ax||)."""
    draw = torch.Generator().manual_seed(3)
    b = torch.randn(20, 20, generator=draw, dtype=torch.float64)
    a = (b + b.T) * scale
    x = torch.linspace(-2, 3, 20, dtype=torch.float64)
    model = Point(x)
    sam = Sam(model, sgd(model), SamArguments(rho=rho))
    loss = sam.backward(lambda a: 0.5 * model.x @ a @ model.x, a)
    truth = a @ (x + rho * a @ x / (a @ x).norm())
    assert torch.allclose(gradients(model)[0], truth, rtol=1e-12, atol=1e-12 * scale)
    assert loss == 0.5 * x @ a @ x
    assert not loss.requires_grad
    assert torch.equal(model.x, x)


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_network(adaptive: bool) -> None:
    model, (batch,) = network().double(), batches(1)
    batch = (batch[0].double(), batch[1])
    scales = naive.adaptive_scales(model, eta=0.2) if adaptive else None
    truth = naive.sharp_gradient(model, partial(mean_loss, batch=batch), 0.7, scales)
    sam = Sam(model, sgd(model), SamArguments(rho=0.7, adaptive=adaptive, eta=0.2))
    sam.backward(partial(mean_loss, model), batch)
    for found, expected in zip(gradients(model), truth, strict=True):
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("adaptive", [False, True])
def test_groups_with_their_own_rho(adaptive: bool) -> None:
    """A radius of the ellipsoid each; none at 0, and the default where none is named."""
    model, (batch,) = nn.Sequential(*(nn.Linear(5, 5) for _ in range(3))).double(), batches(1)
    loss = lambda model: model(batch[0].double()).square().mean()  # noqa: E731
    groups = [{"params": model[0].parameters(), "rho": 0.3}]
    groups += [{"params": model[1].parameters(), "rho": 0.0}, {"params": model[2].parameters()}]
    scales = naive.adaptive_scales(model) if adaptive else [1.0] * 6
    shares = (0.3 / 0.3, 0.3 / 0.3, 0, 0, 0.1 / 0.3, 0.1 / 0.3)
    scales = [t * share for t, share in zip(scales, shares, strict=True)]
    truth = naive.sharp_gradient(model, loss, 0.3, scales)
    sam = Sam(model, torch.optim.SGD(groups), SamArguments(rho=0.1, adaptive=adaptive))
    sam.backward(loss, model)
    for found, expected in zip(gradients(model), truth, strict=True):
        assert torch.allclose(found, expected, rtol=1e-11, atol=1e-14)


def test_a_flat_place_is_left_where_it_is() -> None:
    model = Point(torch.zeros(3))
    sam = Sam(model, sgd(model), SamArguments(rho=1.0))
    sam.backward(lambda model: model.x @ model.x, model)
    assert torch.equal(gradients(model)[0], torch.zeros(3))
    assert sam.summary.skipped == 0


@pytest.mark.parametrize("optimizer", [sgd, adamw])
def test_rho_0_is_the_base_optimizer(
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
) -> None:
    """To the bit, with dropout, running statistics and the random state after."""
    ends, states = [], []
    for with_sam in (False, True):
        model = network(noisy=True)
        base = optimizer(model)
        sam = Sam(model, base, SamArguments(rho=0.0))
        torch.manual_seed(5)
        for batch in batches(20):
            base.zero_grad()
            if with_sam:
                sam.backward(partial(mean_loss, model), batch)
            else:
                mean_loss(model, batch).backward()
            base.step()
        ends.append(model)
        states.append(torch.get_rng_state())
    assert same(*ends)
    assert torch.equal(*states)
    assert sam.summary.ascents == 0
    assert sam.summary.backward_passes == 20


@pytest.mark.parametrize("every", [1, 3])
def test_backward_passes(every: int) -> None:
    """2 a step, or 1 + 1/k; the steps between are those of the base optimizer."""
    model = network()
    optimizer, counted, seen = adamw(model), [], []
    sam = Sam(model, optimizer, SamArguments(every=every))

    def loss(batch: Batch) -> Tensor:
        seen.append(model[0].weight.detach().clone())
        value = mean_loss(model, batch)
        value.register_hook(counted.append)
        return value

    for number, batch in enumerate(batches(9)):
        before = len(seen)
        sam.backward(loss, batch)
        optimizer.step()
        optimizer.zero_grad()
        assert len(seen) - before == (2 if number % every == 0 else 1)
    assert len(counted) == 9 + 9 // every
    assert sam.summary.backward_passes == len(counted)
    assert (sam.summary.steps, sam.summary.ascents) == (9, 9 // every)
    assert sam.mode == "per-replica"


def test_the_second_pass_draws_what_the_first_drew() -> None:
    """And what comes after draws as though there had been one pass."""
    model = nn.Linear(5, 3)
    drawn: list[tuple[Tensor, float, float]] = []

    def loss(batch: Batch) -> Tensor:
        mask = torch.rand(5)
        drawn.append((mask, random.random(), float(np.random.rand())))
        return cross_entropy(model(batch[0] * mask), batch[1])

    def seed() -> None:
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)

    seed()
    sam = Sam(model, sgd(model))
    for batch in batches(2):
        sam.backward(loss, batch, last=False)
    sam.backward(loss, batches(3)[2])
    after = (torch.rand(5), random.random(), float(np.random.rand()))
    seed()
    plain = [(torch.rand(5), random.random(), float(np.random.rand())) for _ in range(4)]
    expected = [*plain[:3], *plain[:3]]
    assert all(
        torch.equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(drawn, expected, strict=True)
    )
    assert torch.equal(after[0], plain[3][0])
    assert after[1:] == plain[3][1:]


@pytest.mark.parametrize(
    "layers",
    [
        [nn.BatchNorm1d(5)],
        [nn.Unflatten(1, (1, 5)), nn.InstanceNorm1d(1, track_running_stats=True), nn.Flatten()],
    ],
)
def test_running_statistics_are_those_of_one_pass(layers: list[nn.Module]) -> None:
    model = nn.Sequential(nn.Linear(5, 5), *deepcopy(layers), nn.Linear(5, 3))
    plain, untouched, batch = deepcopy(model), deepcopy(model), batches(1)[0]
    mean_loss(plain, batch)
    sam = Sam(model, sgd(model), SamArguments(rho=10.0))
    sam.backward(partial(mean_loss, model), batch)
    assert same(model, plain)
    assert not same(model, untouched)


@pytest.mark.parametrize("parts", [2, 3])
def test_accumulated_micro_batches_are_one_batch(parts: int) -> None:
    """They climb together."""
    whole = batches(1, size=12)[0]
    micro = list(zip(*(tensor.chunk(parts) for tensor in whole), strict=True))
    once, often = network().double(), network().double()
    loss = lambda model, batch: mean_loss(model, (batch[0].double(), batch[1]))  # noqa: E731
    Sam(once, sgd(once), SamArguments(rho=0.5)).backward(partial(loss, once), whole)
    sam = Sam(often, sgd(often), SamArguments(rho=0.5))
    for number, batch in enumerate(micro, start=1):
        sam.backward(lambda batch: loss(often, batch) / parts, batch, last=number == parts)
    for found, expected in zip(gradients(often), gradients(once), strict=True):
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)
    assert sam.summary.backward_passes == 2 * parts


def test_what_another_optimizer_trains_has_the_gradient_uphill_too() -> None:
    model, twin = network(), network()
    batch = batches(1)[0]
    Sam(model, torch.optim.SGD(model[0].parameters())).backward(partial(mean_loss, model), batch)
    groups = [{"params": twin[0].parameters()}, {"params": twin[2].parameters(), "rho": 0.0}]
    Sam(twin, torch.optim.SGD(groups)).backward(partial(mean_loss, twin), batch)
    for found, expected in zip(gradients(model), gradients(twin), strict=True):
        assert torch.equal(found, expected)


def test_clipping_sees_the_sharp_gradient() -> None:
    """Had the first one been clipped, e would be as long; here the second is, and nothing else."""
    model, batch = network(), batches(1)[0]
    truth = naive.sharp_gradient(model, partial(mean_loss, batch=batch), 0.3)
    length = math.sqrt(sum(float(g.square().sum()) for g in truth))
    Sam(model, sgd(model), SamArguments(rho=0.3)).backward(partial(mean_loss, model), batch)
    total = torch.nn.utils.clip_grad_norm_(model.parameters(), length / 4)
    assert float(total) == pytest.approx(length, rel=1e-5)
    for found, expected in zip(gradients(model), truth, strict=True):
        assert torch.allclose(found, expected / 4, rtol=1e-4, atol=1e-7)


def interrupted(model: nn.Module, error: BaseException) -> Callable[[Batch], Tensor]:
    """A loss that fails when it is called the second time."""
    calls = iter(range(100))

    def loss(batch: Batch) -> Tensor:
        if next(calls) == 1:
            torch.rand(3)
            raise error
        return mean_loss(model, batch)

    return loss


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt("stop")])
def test_weights_come_back_to_the_bit_when_the_second_pass_fails(error: BaseException) -> None:
    model = network(noisy=True)
    home, batch = deepcopy(model), batches(1)[0]
    sam = Sam(model, adamw(model), SamArguments(rho=0.77, adaptive=True))
    loss = interrupted(model, error)
    torch.manual_seed(1)
    mean_loss(deepcopy(model), batch)
    after_one_pass = torch.get_rng_state()
    torch.manual_seed(1)
    with pytest.raises(type(error), match=str(error)):
        sam.backward(loss, batch)
    for found, expected in zip(model.parameters(), home.parameters(), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(torch.get_rng_state(), after_one_pass)
    assert gradients(model) == []
    torch.manual_seed(2)
    sam.backward(partial(mean_loss, model), batch)  # nothing of the failed step is left
    twin = deepcopy(home)
    twin.load_state_dict(home.state_dict())
    mean_loss(twin, batch)  # the statistics of the failed step's first pass stay
    torch.manual_seed(2)
    Sam(twin, adamw(twin), SamArguments(rho=0.77, adaptive=True)).backward(
        partial(mean_loss, twin), batch
    )
    for found, expected in zip(gradients(model), gradients(twin), strict=True):
        assert torch.equal(found, expected)


def test_weights_come_back_to_the_bit_over_many_steps() -> None:
    """No step, no change: subtracting e instead would drift."""
    model = network()
    home = deepcopy(model)
    sam = Sam(model, sgd(model), SamArguments(rho=0.3))
    for batch in batches(100):
        sam.backward(partial(mean_loss, model), batch)
    assert same(model, home)


@pytest.mark.parametrize("outside", [False, True])
def test_bfloat16_autocast(outside: bool) -> None:
    """Also where autocast is entered around both passes; its cache holds copies of weights."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return mean_loss(model, batch)

    model, batch = network(), batches(1)[0]
    truth = naive.sharp_gradient(model, partial(loss, batch=batch), 2.0)
    sam = Sam(model, sgd(model), SamArguments(rho=2.0))
    with torch.autocast("cpu", torch.bfloat16, enabled=outside):
        first = sam.backward(partial(mean_loss if outside else loss, model), batch)
        assert loss(model, batch) == first  # of the weights, not of those uphill
    flat = [naive.gradient(model, partial(loss, batch=batch))]
    for found, expected, there in zip(gradients(model), truth, *flat, strict=True):
        assert found.dtype == torch.float32
        assert torch.allclose(found, expected, rtol=1e-2, atol=1e-4)
        assert not torch.allclose(there, expected, rtol=1e-2, atol=1e-4)


def test_the_mode_in_force_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    model = network()
    with caplog.at_level("INFO", "mergekit_geo.training"):
        Sam(model, sgd(model), SamArguments(rho=0.2))
    assert "rho=0.2" in caplog.text
    assert "ascent per-replica, 1 processes" in caplog.text


def test_a_copy_of_counts_goes_into_a_checkpoint() -> None:
    model = network()
    sam = Sam(model, sgd(model), SamArguments(every=2))
    for batch in batches(3):
        sam.backward(partial(mean_loss, model), batch)
    again = Sam(model, sgd(model), SamArguments(every=2, ascent="synchronised"))
    again.load_state_dict(sam.state_dict())
    assert again.mode == "synchronised"
    again.backward(partial(mean_loss, model), batch)  # the fourth, which does not climb
    assert (again.summary.steps, again.summary.ascents, again.summary.backward_passes) == (4, 2, 6)
