"""Steps whose loss or gradient is not finite are left out, told and counted."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from mergekit_geo.config.training import SamArguments
from mergekit_geo.errors import NonFiniteError
from mergekit_geo.training.sam import Sam

GOOD = torch.ones(4, 3)


class Net(nn.Module):
    """One weight and one running mean."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.x = nn.Parameter(torch.ones(3))

    def forward(self, rows: Tensor) -> Tensor:
        """A loss."""
        return (self.norm(rows) * self.x).square().mean() + self.x.square().sum()


class Script:
    """A loss that is something else at some of its calls."""

    def __init__(self, model: Net, calls: dict[int, Callable[[Tensor], Tensor]]) -> None:
        self.model, self.calls, self.made = model, calls, 0

    def __call__(self, rows: Tensor) -> Tensor:
        self.made += 1
        return self.calls.get(self.made, lambda loss: loss)(self.model(rows))


def nan(loss: Tensor) -> Tensor:
    return loss * torch.nan


def infinite(loss: Tensor) -> Tensor:
    """With a finite gradient."""
    return loss + torch.inf


def steep(loss: Tensor) -> Tensor:
    """Finite, with a gradient that is not."""
    return loss + (loss - loss.detach()).mul(1e38).mul(1e38)


def trained(calls: dict[int, Callable[[Tensor], Tensor]], steps: int) -> tuple[Net, Sam, list[Net]]:
    """A model, and what it was after each step."""
    torch.manual_seed(0)
    model, after = Net(), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    sam = Sam(model, optimizer, SamArguments(rho=0.1, most_skipped=3))
    loss = Script(model, calls)
    for _ in range(steps):
        sam.backward(loss, torch.randn(4, 3))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        after.append(deepcopy(model))
    return model, sam, after


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("what", [nan, infinite, steep])
@pytest.mark.parametrize(("call", "calls"), [(3, 5), (4, 6)])
def test_a_step_is_skipped(
    what: Callable[[Tensor], Tensor], call: int, calls: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The second step of three, in its first pass or its second; statistics come back too."""
    _, sam, after = trained({call: what}, steps=3)
    assert same(after[0], after[1])
    assert not same(after[1], after[2])
    assert all(tensor.isfinite().all() for tensor in after[2].state_dict().values())
    assert sam.summary.backward_passes == calls
    assert (sam.summary.steps, sam.summary.skipped, sam.summary.skipped_in_a_row) == (3, 1, 0)
    assert "step 2 was skipped: its loss or gradient is not finite (1 in a row)" in caplog.text


def test_running_statistics_of_a_skipped_step() -> None:
    model = Net()
    before = deepcopy(model)
    sam = Sam(model, torch.optim.SGD(model.parameters()))
    sam.backward(model, torch.full((4, 3), torch.nan))
    assert same(model, before)


def test_stops_after_so_many_in_a_row() -> None:
    bad = dict.fromkeys((1, 2, 5, 6, 7), nan)  # two, a good step of two passes, three
    with pytest.raises(
        NonFiniteError, match=r"step 6 was skipped.* last of 3 in a row \(a smaller"
    ):
        trained(bad, steps=9)
    assert trained(dict.fromkeys((1, 2), nan), steps=5)[1].summary.skipped == 2


def test_plain_steps_are_skipped_too() -> None:
    model = Net()
    before = deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sam = Sam(model, optimizer, SamArguments(rho=0.0))
    sam.backward(Script(model, {1: nan}), GOOD)
    optimizer.step()
    assert same(model, before)


@pytest.mark.parametrize("call", [1, 2])
def test_overflow_under_a_scaler(call: int) -> None:
    """In either pass: weights stay, the scale halves, and the next step is made."""
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    sam = Sam(model, optimizer, SamArguments(rho=0.1), scaler=scaler)
    loss = Script(model, {call: lambda loss: loss * 1e37})
    before = [p.detach().clone() for p in model.parameters()]
    for step in range(2):
        sam.backward(loss, GOOD)
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        stayed = all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        assert stayed == (step == 0)
        assert scaler.get_scale() == 2.0**9
    assert sam.summary.skipped == 1


def test_the_ascent_does_not_depend_on_the_scale() -> None:
    """fp16 autocast with a scaler, after its gradients are unscaled, against none."""
    found = []
    for scale in (1.0, 2.0**12):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        sam = Sam(model, optimizer, SamArguments(rho=1.0), scaler=scaler)

        def loss(rows: Tensor, model: nn.Module = model) -> Tensor:
            with torch.autocast("cpu", torch.float16):
                return model(rows).square().mean()

        sam.backward(loss, torch.linspace(-1, 1, 24).view(4, 6))
        scaler.unscale_(optimizer)
        found.append([p.grad for p in model.parameters()])
    for plain, scaled in zip(*found, strict=True):
        assert torch.allclose(plain, scaled, rtol=1e-2, atol=1e-3)


def test_a_scaler_that_is_off() -> None:
    model = Net()
    before = deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    sam = Sam(model, optimizer, scaler=scaler)
    sam.backward(Script(model, {1: nan}), GOOD)
    scaler.step(optimizer)
    assert same(model, before)
