"""Saddles, architectures and convexity: the lesson's examples at a small size."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from examples import architectures, saddles
from examples.lesson import convex
from tests.docs.small import make_small


@pytest.fixture(scope="module")
def saddle() -> saddles.Found:
    """That near zero, where the hidden units are dead."""
    draw = torch.Generator().manual_seed(0)
    start = 0.05 * torch.randn(saddles.WEIGHTS, generator=draw, dtype=torch.float64)
    return saddles.newton(start, 40)


def test_a_saddle_by_naive_gradient_and_hessian(saddle: saddles.Found) -> None:
    model = saddles.network(saddle.weights)
    names = [name for name, _ in model.named_parameters()]
    sizes = [parameter.numel() for parameter in model.parameters()]

    def loss(weights: torch.Tensor) -> torch.Tensor:
        parts = {
            name: part.view_as(own)
            for name, part, own in zip(names, weights.split(sizes), model.parameters(), strict=True)
        }
        logits = torch.func.functional_call(model, parts, saddles.X)
        return cross_entropy(logits, saddles.Y) + saddles.L2 / 2 * weights.square().sum()

    weights = saddle.weights.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(weights), weights)
    values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, saddle.weights))
    assert saddle.kind == "critical"
    assert gradient.norm() <= saddles.CRITICAL
    assert saddle.index == pytest.approx(float((values < -1e-9).double().mean()))
    assert saddle.lowest == pytest.approx(float(values[0]), abs=1e-10)


def test_descent_leaves_it_at_the_rate_of_its_curvature(saddle: saddles.Found) -> None:
    """A hundred times nearer takes log(100) / log(1 + η |λ_min|) steps more."""
    sizes = saddles.QUICK
    far, near = (saddles.to_leave(saddle, "descent", offset, sizes) for offset in (1e-4, 1e-6))
    more = math.log(100) / math.log1p(saddles.RATE * -saddle.lowest)
    for one, other in zip(far, near, strict=True):
        assert other - one == pytest.approx(more, rel=0.05)
    perturbed = saddles.to_leave(saddle, "perturbed", 1e-6, sizes)
    assert max(perturbed) < min(far)
    assert saddles.steepest_with_noise(saddle) == 0
    assert min(saddles.to_leave(saddle, "mini-batches", 1e-6, sizes)) > max(perturbed)


def test_a_critical_point_of_a_flat_gradient_is_none() -> None:
    """L = a + b³ has no critical point; at b = 0 its gradient is in the kernel of its Hessian."""
    rest = {"weights": torch.zeros(2), "loss": 0.0, "vectors": torch.eye(2)}
    flat = saddles.Found(gradient=1.0, residual=0.0, eigenvalues=torch.tensor([0.0, 1.0]), **rest)
    assert flat.kind == "gradient-flat"
    assert saddles.distinct([flat]) == []


@pytest.mark.slow
def test_saddles_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)
    found = saddles.measure(saddles.QUICK)
    assert found["ended"]["critical"] > 0
    assert all(gradient <= saddles.CRITICAL for *_, gradient in found["points"])
    assert len(saddles.tables(found)["leaving"].splitlines()) == 3


@pytest.mark.slow
def test_architectures_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)
    found = architectures.measure(architectures.QUICK)
    assert found["networks"].keys() == {"with skips", "without"}
    assert "λ_max" in architectures.tables(found)["networks"]


@pytest.mark.slow
def test_the_library_finds_the_saddle_and_leaves_it(saddle: saddles.Found) -> None:
    found, led = saddles.by_lanczos(saddle), saddles.by_escape(saddle)
    assert found["lambda_min"] == pytest.approx(saddle.lowest, abs=1e-3)
    assert found["low"] <= saddle.index <= found["high"]
    assert led["kind"] == "escaped"
    assert led["loss"] < saddle.loss - 0.5


@pytest.mark.slow
def test_logistic_regression_ends_in_one_point() -> None:
    found = convex.measure(convex.QUICK)
    one, other = found["logistic regression"], found["one hidden layer"]
    assert max(one["apart"]) < 0.05
    assert min(other["apart"]) > 1
    assert max(one["barriers"])[2] < 0.001 < min(other["barriers"])[1]


def test_networks_differ_by_their_skips_alone() -> None:
    with_skips, without = (architectures.network(1, skip, 0).eval() for skip in (True, False))
    x = torch.randn(2, architectures.WIDTH, 8, 8)
    block, plain = with_skips[3], without[3]
    assert torch.equal(block.body(x), plain.body(x))
    assert torch.equal(block(x), torch.relu(block.body(x) + x))
    assert torch.equal(plain(x), torch.relu(plain.body(x)))
