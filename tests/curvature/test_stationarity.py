"""Gradient noise, verdicts and escapes, against dense references."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mergekit_geo.curvature.direction import LENGTHS, escape
from mergekit_geo.curvature.gradients import GroupGradients
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.curvature.stationarity import verdict
from mergekit_geo.errors import DataError
from mergekit_geo.records.curvature import Stationarity


class Point(nn.Module):
    """One vector of parameters."""

    def __init__(self, at: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(at.clone())


def sloped(slopes_bn: Tensor, weights_b: Tensor, model: nn.Module) -> tuple[Tensor, Tensor]:
    """A batch of linear losses, whose gradients are given."""
    return slopes_bn @ model.x, weights_b


def sample(
    slopes: Sequence[Tensor], weights: Sequence[Tensor], spend: Callable[[float], None] = print
) -> MeanLoss:
    """A mean loss of batches of given gradients."""
    pieces = [partial(sloped, s, w) for s, w in zip(slopes, weights, strict=True)]
    return MeanLoss(Point(torch.ones(slopes[0].shape[1], dtype=torch.float64)), pieces, spend)


def drawn(
    truth: Tensor, batches: int, draw: torch.Generator, noise: float = 1.0
) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients around the true one; batches of one to six, with weights of their own."""
    sizes = torch.randint(1, 7, (batches,), generator=draw).tolist()
    weights = [1 + 3 * torch.rand(b, generator=draw, dtype=torch.float64) for b in sizes]
    slopes = [
        truth + noise * torch.randn(b, len(truth), generator=draw, dtype=torch.float64)
        for b in sizes
    ]
    return slopes, weights


def test_gradient_and_loss_are_those_of_the_whole_sample() -> None:
    spent: list[float] = []
    draw = torch.Generator().manual_seed(0)
    loss = sample(*drawn(torch.ones(7, dtype=torch.float64), 11, draw), spent.append)
    found = GroupGradients.of(loss)
    assert sum(spent) / 11 == pytest.approx(1)
    at, gradient = loss.gradient()
    torch.testing.assert_close(found.gradient, gradient)
    assert found.loss == pytest.approx(at)
    assert found.norm == pytest.approx(float(gradient.norm()))
    assert found.groups == 8
    assert torch.equal(loss.weights.vector(), torch.ones(7, dtype=torch.float64))


def naive_squared_norm(slopes: Sequence[Tensor], weights: Sequence[Tensor], k: int) -> float:
    """Mean of <g_i, g_j> over pairs of different groups, each by the product of its weights."""
    groups = [(torch.cat(slopes[i::k]), torch.cat(weights[i::k])) for i in range(k)]
    total, over = 0.0, 0.0
    for i, (s, w) in enumerate(groups):
        for j, (t, v) in enumerate(groups):
            if i != j:
                product = float((w @ s / w.sum()) @ (v @ t / v.sum()))
                total += float(w.sum() * v.sum()) * product
                over += float(w.sum() * v.sum())
    return total / over


def naive_jackknife(slopes: Sequence[Tensor], weights: Sequence[Tensor], k: int) -> float:
    """Tukey 1958, each group left out by hand."""
    left = []
    for out in range(k):
        groups = [i for i in range(k) if i != out]
        left.append(
            naive_squared_norm(
                [torch.cat(slopes[i::k]) for i in groups],
                [torch.cat(weights[i::k]) for i in groups],
                k - 1,
            )
        )
    return math.sqrt((k - 1) / k * float(np.square(np.array(left) - np.mean(left)).sum()))


@pytest.mark.parametrize(("batches", "groups"), [(3, 3), (5, 5), (8, 8), (21, 8)])
def test_squared_norm_is_the_naive_one(batches: int, groups: int) -> None:
    draw = torch.Generator().manual_seed(batches)
    slopes, weights = drawn(torch.linspace(-1, 1, 6, dtype=torch.float64), batches, draw)
    found = GroupGradients.of(sample(slopes, weights))
    assert found.groups == groups
    assert found.squared_norm == pytest.approx(naive_squared_norm(slopes, weights, groups))
    assert found.standard_error == pytest.approx(naive_jackknife(slopes, weights, groups))


@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_squared_norm_has_no_bias_and_the_plain_one_has(strength: float) -> None:
    """Over samples of the same weights; the plain one is too large by the trace of the noise."""
    truth = strength * torch.ones(20, dtype=torch.float64)
    draw = torch.Generator().manual_seed(1)
    _, weights = drawn(truth, 9, draw)
    unbiased, plain, errors = [], [], []
    for _ in range(256):
        slopes = [
            truth + torch.randn(len(w), 20, generator=draw, dtype=torch.float64) for w in weights
        ]
        found = GroupGradients.of(sample(slopes, weights), most=6)
        unbiased.append(found.squared_norm)
        errors.append(found.standard_error)
        plain.append(found.norm**2)
    w = torch.cat(weights)
    trace = 20 * float((w / w.sum()).square().sum())
    right, spread = float(truth @ truth), np.std(unbiased) / 16
    assert abs(np.mean(unbiased) - right) < 3 * spread
    assert abs(np.mean(plain) - right - trace) < 4 * spread
    assert trace > 10 * spread
    assert 0.9 < np.sqrt(np.mean(np.square(errors))) / np.std(unbiased) < 2
    alarms = np.mean(np.array(unbiased) > 2 * np.array(errors))
    assert alarms < 0.05 if strength == 0 else alarms > 0.5


def test_too_few_batches_tell_nothing_of_noise() -> None:
    draw = torch.Generator().manual_seed(4)
    slopes, weights = drawn(torch.ones(3, dtype=torch.float64), 3, draw)
    one = GroupGradients.of(sample(slopes[:1], weights[:1]))
    assert (one.squared_norm, one.standard_error, one.groups) == (None, None, 1)
    two = GroupGradients.of(sample(slopes[:2], weights[:2]))
    assert two.squared_norm == pytest.approx(naive_squared_norm(slopes[:2], weights[:2], 2))
    assert two.standard_error is None
    weights[1].zero_()
    empty = GroupGradients.of(sample(slopes, weights))
    assert empty.squared_norm == pytest.approx(naive_squared_norm(slopes[::2], weights[::2], 2))
    assert empty.standard_error is None


def test_where_groups_cancel_the_norm_is_zero() -> None:
    """At the minimum of the sample; rounding must not make it the root of a negative number."""
    slopes = torch.randn(8, 5, dtype=torch.float64)
    slopes[-1] = -slopes[:-1].sum(dim=0)
    found = GroupGradients.of(sample(list(slopes[:, None]), [torch.ones(1)] * 8))
    assert found.norm == pytest.approx(0, abs=1e-12)
    assert found.squared_norm is not None
    assert found.squared_norm < 0


KNOWN = {
    "loss": 2.0,
    "loss_error": 0.05,
    "squared_norm": 0.1,
    "squared_norm_error": 0.02,
    "lambda_max": 10.0,
    "lambda_min": -1.0,
    "residual": 0.1,
    "steps": 30,
    "lowered": True,
}


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({}, "saddle", "along a direction of curvature -1 ± 0.1 a step lowers the held-out loss"),
        ({"squared_norm": 2.0}, "not stationary", "promises to lower the loss by 0.1"),
        ({"squared_norm": 2.0, "squared_norm_error": 1.5}, "cannot tell", "or more would be det"),
        ({"loss_error": 0.2, "squared_norm": 1.0}, "not stationary", "by 0.05"),
        (
            {"loss_error": 0.2, "squared_norm": 1.0, "squared_norm_error": 0.6},
            "cannot tell",
            "only a gain of 0.098 (4.9 % of the loss) or more",
        ),
        (
            {"loss_error": 0.2, "squared_norm": 1.0, "squared_norm_error": 0.6, "groups": 4},
            "cannot tell",
            "only a gain of 0.12 (6.2 % of the loss) or more",
        ),
        ({"squared_norm": -2.0}, "saddle", "a saddle"),
        ({"loss_error": 0.004}, "not stationary", "by 0.005"),
        ({"loss_error": None}, "not stationary", "by 0.005"),
        ({"loss_error": None, "loss": 6.0}, "saddle", "a saddle"),
        ({"lambda_max": 0.5}, "not stationary", "by 0.1"),
        ({"lambda_max": -0.5}, "not stationary", "lower the loss without end"),
        ({"squared_norm": None}, "not measured", "needs λ_max and the gradients of three batches"),
        ({"squared_norm_error": None}, "not measured", "gradients of three batches"),
        ({"lambda_max": None}, "not measured", "needs λ_max"),
        (
            {"lambda_min": None},
            "not measured",
            "one step down the gradient does not lower the loss significantly, though many",
        ),
        ({"lambda_min": None}, "not measured", "λ_min was not measured"),
        ({"residual": None}, "not measured", "λ_min was not measured"),
        ({"lambda_min": None, "squared_norm": 2.0}, "not stationary", "by 0.1"),
        ({"residual": 0.995}, "no negative curvature", "no negative curvature found in 30 steps"),
        ({"lambda_min": -0.105}, "no negative curvature", "found in 30 steps"),
        ({"lambda_min": 0.2}, "no negative curvature", "found in 30 steps"),
        ({"lowered": None}, "not measured", "no held-out loss to see"),
        ({"lowered": False}, "no negative curvature", "that other examples share: -1 ± 0.1 on"),
    ],
)
def test_verdict(changed: dict[str, object], kind: str, words: str) -> None:
    found = verdict(**{**KNOWN, **changed})
    assert found.kind == kind
    assert words in found.sentence
    assert "minimum" not in found.sentence


def test_what_is_no_number_is_not_measured() -> None:
    for name in ("squared_norm", "squared_norm_error", "lambda_max", "lambda_min", "residual"):
        assert verdict(**{**KNOWN, name: math.nan}).kind == "not measured", name


class Linear(nn.Module):
    """x to W2 W1 x, at 0."""

    def __init__(self, size: int, hidden: int, out: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(hidden, size, dtype=torch.float64))
        self.second = nn.Parameter(torch.zeros(out, hidden, dtype=torch.float64))


def squares(x_bd: Tensor, y_bo: Tensor, model: Linear) -> tuple[Tensor, Tensor]:
    errors = y_bo - x_bd @ model.first.T @ model.second.T
    return 0.5 * errors.square().sum(dim=1), torch.ones(len(x_bd))


def regression(batches: int, seed: int, model: Linear) -> tuple[MeanLoss, Tensor]:
    """Of y = M x + noise, in batches of 32, and Y X^T / n."""
    true = torch.randn(3, 5, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(batches * 32, 5, generator=draw, dtype=torch.float64)
    y = x @ true.T + 0.3 * torch.randn(len(x), 3, generator=draw, dtype=torch.float64)
    parts = zip(x.split(32), y.split(32), strict=True)
    pieces = [partial(squares, part_x, part_y) for part_x, part_y in parts]
    return MeanLoss(model, pieces), y.T @ x / len(x)


def dense_hessian(loss: MeanLoss) -> Tensor:
    """By autograd, of the whole function of one vector."""
    names = [name for name, _ in loss.model.named_parameters()]

    class Held(nn.Module):
        pass

    def of(vector: Tensor) -> Tensor:
        held = Held()
        for name, view in zip(names, loss.weights.views(vector), strict=True):
            object.__setattr__(held, name, view)
        found = [piece(held) for piece in loss.batches]
        return sum(losses @ weights.to(losses) for losses, weights in found) / sum(
            float(weights.sum()) for _, weights in found
        )

    return torch.autograd.functional.hessian(of, loss.weights.vector())


def told(loss: MeanLoss, held_out: MeanLoss) -> tuple[Stationarity, float, Tensor]:
    """The verdict with dense eigenvalues, the best step and its direction."""
    slope = GroupGradients.of(loss)
    values, vectors = torch.linalg.eigh(dense_hessian(loss))
    way = escape(loss, vectors[:, 0], slope.loss, held_out=held_out)
    found = verdict(
        loss=slope.loss,
        loss_error=None,
        squared_norm=slope.squared_norm,
        squared_norm_error=slope.standard_error,
        lambda_max=float(values[-1]),
        lambda_min=float(values[0]),
        residual=1e-9,
        steps=len(values),
        lowered=way.lowered,
    )
    return found, way.step, vectors[:, 0]


@pytest.mark.slow
def test_two_layers_at_zero_are_a_saddle_and_escaped() -> None:
    """Eigenvalues are plus and minus the singular values of Y X^T / n, one pair a hidden unit.

    Training learns one singular direction after another, with a saddle before each (Saxe 2014).
    """
    model = Linear(5, 4, 3)
    loss, cross = regression(24, 0, model)
    held_out, _ = regression(3, 1, model)
    singular = torch.linalg.svdvals(cross).repeat(4)
    zeros = torch.zeros(loss.weights.size - 2 * len(singular), dtype=torch.float64)
    truth = torch.cat([singular, -singular, zeros]).sort().values
    torch.testing.assert_close(
        torch.linalg.eigvalsh(dense_hessian(loss)), truth, atol=1e-9, rtol=1e-9
    )
    for _ in range(3):
        found, step, direction = told(loss, held_out)
        assert found.kind == "saddle"
        before, elsewhere = loss.value(), held_out.value()
        loss.weights.put(loss.weights.vector() + step * direction)
        assert loss.value() < before - 0.05
        assert held_out.value() < elsewhere - 0.05
        assert told(loss, held_out)[0].kind == "not stationary"
        train(loss, 800)
    found, _, _ = told(loss, held_out)
    assert found.sentence == "no negative curvature found in 32 steps"
    assert found.kind == "no negative curvature"


def train(loss: MeanLoss, steps: int) -> None:
    """By the gradient, to the end."""
    vector = loss.weights.vector()
    for _ in range(steps):
        loss.weights.put(vector)
        _, gradient = loss.gradient()
        if gradient.norm() < 1e-6:
            break
        vector -= 0.1 * gradient


def valley(model: nn.Module) -> tuple[Tensor, Tensor]:
    """-x^2 / 2 + x^4 / 4 along the first axis, lowest at 1 and, a little deeper, at -1."""
    x = model.x
    return (-0.5 * x[0] ** 2 + 0.25 * x[0] ** 4 + 0.1 * x[0] + x[1:] @ x[1:])[None], torch.ones(1)


def test_escape_is_the_best_of_the_grid_either_way() -> None:
    spent: list[float] = []
    loss = MeanLoss(Point(torch.zeros(3, dtype=torch.float64)), [valley], spent.append)
    axis = torch.tensor([1.0, 0, 0], dtype=torch.float64)
    for direction, sign in ((axis, -1), (-7 * axis, 1)):
        spent.clear()
        found = escape(loss, direction, 0.0, held_out=loss)
        assert sum(spent) == pytest.approx((2 * len(LENGTHS) + 2) / 3)
        assert found.step == sign * 0.6
        assert found.change == pytest.approx(-0.5 * 0.36 + 0.25 * 0.1296 - 0.06)
        assert found.change == found.held_out
        assert found.lowered is True
        assert torch.equal(loss.weights.vector(), torch.zeros(3, dtype=torch.float64))
    assert escape(loss, axis, 0.0, lengths=(0.5, 1.0)).step == -1.0
    assert escape(loss, axis, 0.0).lowered is None


@pytest.mark.parametrize("beyond", [math.nan, math.inf, -math.inf])
def test_where_no_step_goes_down_none_is_made(beyond: float) -> None:
    def wall(model: nn.Module) -> tuple[Tensor, Tensor]:
        x = model.x
        return torch.where(x[0] > 0.1, beyond, x @ x)[None], torch.ones(1)

    loss = MeanLoss(Point(torch.zeros(3)), [wall])
    found = escape(loss, torch.tensor([1.0, 0, 0]), 0.0, held_out=loss)
    assert (found.step, found.change, found.held_out, found.lowered) == (0, 0, 0, False)


def test_an_error_in_the_middle_leaves_the_weights_as_they_were() -> None:
    calls = []

    def fails(model: nn.Module) -> tuple[Tensor, Tensor]:
        calls.append(1)
        if len(calls) > 4:
            raise DataError("out of order")
        return (model.x @ model.x)[None], torch.ones(1)

    start = torch.randn(5)
    loss = MeanLoss(Point(start), [fails])
    with pytest.raises(DataError, match="out of order"):
        escape(loss, torch.ones(5), 1.0)
    assert torch.equal(loss.weights.vector(), start)
    with pytest.raises(DataError, match="out of order"):
        GroupGradients.of(loss)
    infinite = MeanLoss(Point(start), [lambda m: ((m.x @ m.x)[None] * math.inf, torch.ones(1))])
    with pytest.raises(DataError, match="the loss is not a number"):
        GroupGradients.of(infinite)
