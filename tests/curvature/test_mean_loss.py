"""The mean loss and its gradient against one written in one line, in one process and in two."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mergekit_geo.curvature.hessian import Hessian
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.errors import DataError
from mergekit_geo.processes import is_main_process
from tests.forks import FORKS

Piece = Callable[[nn.Module], tuple[Tensor, Tensor]]
SIZES = (4, 9, 1, 6, 3)


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype)


def make_piece(seed: int, count: int, dtype: torch.dtype = torch.float64) -> Piece:
    """A batch with unequal weights, one of them zero."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 5, generator=draw, dtype=torch.float64).to(dtype)
    labels = torch.randint(0, 3, (count,), generator=draw)
    weights = 10 * torch.rand(count, generator=draw, dtype=torch.float64).to(dtype)
    weights[1:2] = 0
    return lambda model: (cross_entropy(model(inputs), labels, reduction="none"), weights)


def make_pieces(dtype: torch.dtype = torch.float64) -> list[Piece]:
    return [make_piece(seed, count, dtype) for seed, count in enumerate(SIZES)]


def naive(model: nn.Module, pieces: Sequence[Piece]) -> tuple[Tensor, Tensor]:
    """The mean over all examples at once, and its gradient (n,)."""
    found = [piece(model) for piece in pieces]
    losses, weights = (torch.cat(parts) for parts in zip(*found, strict=True))
    mean = (losses * weights).sum() / weights.sum()
    slopes = torch.autograd.grad(mean, [p for p in model.parameters() if p.requires_grad])
    return mean.detach(), torch.cat([slope.flatten() for slope in slopes])


def constant(value: float, weight: float = 1.0) -> Piece:
    """A loss that the weights move by next to nothing."""
    return lambda model: (
        value + 0 * next(model.parameters()).flatten()[:1],
        torch.tensor([weight], dtype=torch.float64),
    )


def test_mean_and_gradient_are_those_of_all_examples_at_once() -> None:
    model, pieces = network(), make_pieces()
    mean, slope = naive(model, pieces)
    loss = MeanLoss(model, pieces)
    value, gradient = loss.gradient()
    assert loss.value() == pytest.approx(float(mean), rel=1e-14)
    assert value == loss.value(), "a rise of nothing is zero"
    torch.testing.assert_close(gradient, slope, rtol=1e-12, atol=1e-15)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_batches_weigh_what_their_examples_do() -> None:
    """Not the mean of the batches' means."""
    loss = MeanLoss(network(), [constant(1.0, 3.0), constant(5.0, 1.0)])
    assert loss.value() == pytest.approx(2.0)
    assert loss.sums()[:2] == pytest.approx((8.0, 4.0))


def test_losses_are_summed_in_float64() -> None:
    weights = torch.tensor([2.0**24, 1.0])
    piece: Piece = lambda model: (torch.ones(2) + 0 * model[0].bias[:2], weights)  # noqa: E731
    assert MeanLoss(network(torch.float32), [piece]).sums()[0] == 2**24 + 1


def test_float32_is_right_to_its_precision() -> None:
    pieces = make_pieces(torch.float32)
    mean, slope = naive(network(), make_pieces())
    value, gradient = MeanLoss(network(torch.float32), pieces).gradient()
    assert value == pytest.approx(float(mean), rel=1e-6)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("first", "step"), [(0, 2), (1, 2), (2, 3), (4, 8)])
def test_part_is_every_nth_batch(first: int, step: int) -> None:
    model, pieces = network(), make_pieces()
    spent: list[float] = []
    part = MeanLoss(model, pieces, spent.append).part(first, step)
    chosen = [pieces[i] for i in range(len(pieces)) if i % step == first]
    mean, slope = naive(model, chosen)
    value, gradient = part.gradient()
    assert value == pytest.approx(float(mean), rel=1e-14)
    torch.testing.assert_close(gradient, slope, rtol=1e-12, atol=1e-15)
    assert spent == [1.0] * len(chosen), "the whole's budget pays for it"


def test_sums_of_parts_make_the_whole() -> None:
    loss = MeanLoss(network(), make_pieces())
    parts = [loss.part(first, 3).sums() for first in range(3)]
    total, weight, gradient = (sum(part) for part in zip(*parts, strict=True))
    value, whole = loss.gradient()
    assert total / weight == pytest.approx(value, rel=1e-14)
    torch.testing.assert_close(gradient / weight, whole, rtol=1e-12, atol=1e-15)
    weights = torch.cat([piece(network())[1] for piece in make_pieces()])
    assert weight == pytest.approx(float(weights.sum()), rel=1e-14)


def test_parameter_that_the_loss_does_not_depend_on_has_no_slope() -> None:
    model = network()
    model.add_module("unused", nn.Linear(2, 1).double())
    pieces = [
        lambda model, piece=piece: piece(nn.Sequential(*list(model.children())[:3]))
        for piece in make_pieces()
    ]
    slope = naive(network(), make_pieces())[1]
    gradient = MeanLoss(model, pieces).gradient()[1]
    torch.testing.assert_close(gradient, torch.cat([slope, torch.zeros(3).double()]))


def test_frozen_parameters_are_left_out() -> None:
    model, pieces = network(), make_pieces()
    whole = naive(model, pieces)[1]
    model[0].requires_grad_(False)
    torch.testing.assert_close(MeanLoss(model, pieces).gradient()[1], whole[42:])


def test_cost_is_told_batch_by_batch() -> None:
    spent: list[float] = []
    loss = MeanLoss(network(), make_pieces(), spent.append)
    loss.value()
    assert spent == [1 / 3] * len(SIZES)
    loss.gradient()
    assert spent[len(SIZES) :] == [1.0] * len(SIZES)


@pytest.mark.parametrize("wrong", [math.inf, -math.inf, math.nan])
def test_loss_that_is_not_finite_has_a_value_and_no_gradient(wrong: float) -> None:
    loss = MeanLoss(network(), [*make_pieces(), constant(wrong)])
    assert loss.value() == pytest.approx(wrong, nan_ok=True)
    for refused in (loss.gradient, loss.sums):
        with pytest.raises(DataError, match="the loss is not a number"):
            refused()


# Two processes


class Once(torch.autograd.Function):
    """The identity, with a second derivative for one of the processes only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, refuse: bool) -> Tensor:
        ctx.refuse = refuse
        return x.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        if ctx.refuse and torch.is_grad_enabled():
            raise RuntimeError("not twice")
        return slope, None


def refusing(piece: Piece) -> Piece:
    """A batch that cannot be differentiated twice."""

    def found(model: nn.Module) -> tuple[Tensor, Tensor]:
        losses, weights = piece(model)
        return Once.apply(losses, True), weights

    return found


def measure() -> dict[str, Any]:
    """On one process, or on each of several."""
    pieces = make_pieces()
    spent: list[float] = []
    loss = MeanLoss(network(), pieces, spent.append)
    vector = torch.linspace(-1, 1, loss.weights.size).double()
    exact = Hessian(loss)
    hessian = Hessian(MeanLoss(network(), [pieces[0], refusing(pieces[1]), *pieces[2:]]))
    value, gradient = loss.gradient()
    found = {"batches": len(spent), "value": loss.value(), "loss": value, "gradient": gradient}
    found |= {"exact": exact.product(vector), "difference": hessian.product(vector)}
    return found | {"methods": (exact.method, hessian.method), "reason": hessian.reason}


@pytest.mark.slow
def test_two_gloo_processes_find_what_one_does(tmp_path: Path) -> None:
    """Also where only the second of them has a batch that cannot be differentiated twice."""
    done = FORKS.together([__file__, str(tmp_path / "found.pt")], tmp_path)
    assert done.returncode == 0, done.stderr
    found, alone = torch.load(tmp_path / "found.pt"), measure()
    assert (found["processes"], found["batches"], alone["batches"]) == (2, 3, 5)
    assert alone["methods"] == ("exact", "finite differences")
    assert alone["reason"] == "the model cannot be differentiated twice (not twice)"
    for name in ("methods", "reason"):
        assert found[name] == alone[name]
    for name in ("value", "loss", "gradient", "exact", "difference"):
        torch.testing.assert_close(found[name], alone[name], rtol=1e-6, atol=1e-8)


if __name__ == "__main__":
    from mergekit_geo.processes import world

    torch.set_num_threads(1)
    result = {**measure(), "processes": world()[1]}
    if is_main_process():
        torch.save(result, sys.argv[1])
    torch.distributed.barrier()  # a process that ends while the other works makes gloo abort
    torch.distributed.destroy_process_group()
