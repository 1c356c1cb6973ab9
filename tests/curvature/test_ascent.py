"""SAM sharpness, plain and adaptive, against parabolas and a naive reference."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from mergekit_geo.curvature.ascent import along, one_step, projected_ascent
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.evaluation.objective import FunctionObjective
from mergekit_geo.modules.vectors import inner, norm

Loss = Callable[[Tensor], Tensor]


class Point(nn.Module):
    """One vector of parameters."""

    def __init__(self, at: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(at.clone())


def function(of: Loss, at: Tensor) -> MeanLoss:
    """A function of a vector as a mean loss."""
    objective = FunctionObjective(lambda model, batch: of(model.x)[None], [0])
    return MeanLoss(Point(at), objective.batches())


def matrix(eigenvalues: Tensor, seed: int = 0) -> Tensor:
    """Symmetric, in a random basis."""
    draw = torch.Generator().manual_seed(seed)
    size = len(eigenvalues)
    basis, _ = torch.linalg.qr(torch.randn(size, size, generator=draw, dtype=torch.float64))
    return basis @ torch.diag(eigenvalues.double()) @ basis.T


def parabola(a: Tensor, bottom: Tensor) -> Loss:
    return lambda x: 0.5 * (x - bottom) @ a @ (x - bottom)


@contextmanager
def unmoved(loss: MeanLoss) -> Iterator[None]:
    """The weights are the same bits after."""
    before = loss.weights.vector()
    yield
    assert torch.equal(loss.weights.vector(), before)


BOTTOM = torch.linspace(-2, 3, 30, dtype=torch.float64)
SPECTRUM = 4 / torch.arange(1, 31)


@pytest.mark.parametrize("shift", [0.0, 7.5])
def test_worst_case_at_the_bottom_of_a_parabola(shift: float) -> None:
    """Half of rho^2 λ_max."""
    a, rho = matrix(SPECTRUM), 0.3
    loss = function(lambda x: parabola(a, BOTTOM)(x) + shift, BOTTOM)
    at, gradient = loss.gradient()
    truth = 0.5 * rho**2 * 4
    with unmoved(loss):
        climbed = projected_ascent(loss, gradient, at, rho)
        top = along(loss, torch.linalg.eigh(a).eigenvectors[:, -1] * 5, at, rho)
        assert one_step(loss, gradient, at, rho) == 0
    assert top == pytest.approx(truth, rel=1e-9)
    assert climbed <= truth * (1 + 1e-9)
    assert climbed == pytest.approx(truth, rel=1e-3)
    assert max(climbed, top) == pytest.approx(truth, rel=1e-6)


def test_ascent_climbs_where_curvature_down_is_stronger() -> None:
    """Steps of one length jump to and fro across the valley's ridge."""
    a = matrix(torch.cat([torch.tensor([1.0, -10.0]), torch.linspace(-0.2, 0.5, 28)]))
    loss = function(parabola(a, BOTTOM), BOTTOM)
    found = projected_ascent(loss, loss.gradient()[1], 0.0, 1.0, steps=100)
    assert found == pytest.approx(0.5, rel=0.02)


def test_a_top_within_the_ball_is_found() -> None:
    """Not only the sphere is looked at."""
    loss = function(lambda x: -(x - BOTTOM) @ (x - BOTTOM), BOTTOM + 0.1)
    at, gradient = loss.gradient()
    found = projected_ascent(loss, gradient, at, 3.0)
    assert found == pytest.approx(30 * 0.1**2, rel=0.1)
    assert found <= 30 * 0.1**2


def naive_one_step(of: Loss, theta: Tensor, rho: float, scale: Tensor) -> float:
    """Kwon 2021, with the operator written out; with a scale of ones, Foret 2021."""
    g = torch.autograd.functional.jacobian(of, theta)
    t = torch.diag(scale)
    e = rho * (t @ t @ g) / (t @ g).norm()
    return float(of(theta + e) - of(theta))


def naive_ascent(of: Loss, theta: Tensor, rho: float, scale: Tensor, count: int) -> float:
    """The best of many random points of the ball's surface, refined by small steps."""
    draw = torch.Generator().manual_seed(1)
    best = -math.inf
    for _ in range(count):
        d = torch.randn(len(theta), generator=draw, dtype=theta.dtype)
        for step in range(200):
            d = d * (rho / d.norm())
            g = scale * torch.autograd.functional.jacobian(of, theta + scale * d)
            d = d + 0.2 * rho * (1 - step / 200) * g / g.norm()
        best = max(best, float(of(theta + scale * d * (rho / d.norm())) - of(theta)))
    return best


@pytest.mark.parametrize("adaptive", [False, True])
def test_elsewhere_both_are_those_of_a_naive_reference(adaptive: bool) -> None:
    a = matrix(SPECTRUM)

    def wavy(x: Tensor) -> Tensor:
        return parabola(a, BOTTOM)(x) + 0.5 * torch.sin(3 * x).sum()

    theta, rho = BOTTOM + 0.4, 0.2
    loss = function(wavy, theta)
    scale = theta.abs() if adaptive else None
    at, gradient = loss.gradient()
    ones = torch.ones_like(theta) if scale is None else scale
    with unmoved(loss):
        step = one_step(loss, gradient, at, rho, scale)
        climbed = projected_ascent(loss, gradient, at, rho, scale=scale)
    assert step == pytest.approx(naive_one_step(wavy, theta, rho, ones), rel=1e-9)
    assert climbed == pytest.approx(naive_ascent(wavy, theta, rho, ones, 3), rel=5e-3)
    assert climbed >= step


def test_along_takes_the_higher_side() -> None:
    loss = function(torch.sum, torch.ones(4, dtype=torch.float64))
    direction = -torch.eye(4, dtype=torch.float64)[0]
    with unmoved(loss):
        assert along(loss, direction, 4.0, 0.5) == pytest.approx(0.5)
        assert along(loss, -direction, 4.0, 0.5) == pytest.approx(0.5)


@pytest.mark.parametrize("rho", [0.0, -0.1, math.nan, math.inf])
def test_a_radius_must_be_positive(rho: float) -> None:
    loss = function(torch.sum, torch.ones(3))
    gradient = torch.ones(3)
    for call in (
        lambda: one_step(loss, gradient, 3.0, rho),
        lambda: along(loss, gradient, 3.0, rho),
        lambda: projected_ascent(loss, gradient, 3.0, rho),
    ):
        with pytest.raises(ArgumentError, match="rho: expected a positive number, found"):
            call()


def walled(value: float) -> Loss:
    """Goes up towards a wall beyond which the loss is not finite."""

    def of(x: Tensor) -> Tensor:
        return x.sum() if x.sum() < 1.5 else x.sum() * value

    return of


def test_where_the_loss_is_infinite_so_is_the_sharpness() -> None:
    loss = function(walled(math.inf), torch.zeros(4, dtype=torch.float64))
    gradient = torch.ones(4, dtype=torch.float64)
    with unmoved(loss):
        assert one_step(loss, gradient, 0.0, 1.0) == math.inf
        assert along(loss, gradient, 0.0, 1.0) == math.inf
        assert projected_ascent(loss, gradient, 0.0, 1.0) == math.inf
        assert one_step(loss, gradient, 0.0, 0.1) == pytest.approx(0.2)


def test_where_the_loss_is_no_number_the_climb_ends_with_what_it_has() -> None:
    loss = function(walled(math.nan), torch.zeros(4, dtype=torch.float64))
    gradient = torch.ones(4, dtype=torch.float64)
    with unmoved(loss):
        assert math.isnan(one_step(loss, gradient, 0.0, 1.0))
        assert math.isnan(projected_ascent(loss, gradient, 0.0, 1.0, restarts=1))
        assert along(loss, gradient, 0.0, 1.0) == pytest.approx(-2)
        assert 0 < projected_ascent(loss, gradient, 0.0, 1.0, restarts=20) < 1.5


def test_an_error_in_the_middle_leaves_the_weights_as_they_were() -> None:
    calls = []

    def fails(x: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) > 5:
            raise DataError("out of order")
        return x @ x

    loss = function(fails, torch.randn(5))
    with unmoved(loss), pytest.raises(DataError, match="out of order"):
        projected_ascent(loss, torch.ones(5), 1.0, 0.1)
    for call in (one_step, along):
        with unmoved(loss), pytest.raises(DataError, match="out of order"):
            call(loss, torch.ones(5), 1.0, 0.1)


def test_cost_is_as_documented() -> None:
    spent: list[float] = []
    model = Point(torch.ones(6, dtype=torch.float64))
    pieces = [lambda m: ((m.x @ m.x)[None], torch.ones(1)) for _ in range(2)]
    loss = MeanLoss(model, pieces, spent.append)
    at, gradient = loss.gradient()
    for call, cost in (
        (lambda: one_step(loss, gradient, at, 0.1), 1 / 3),
        (lambda: along(loss, gradient, at, 0.1), 2 / 3),
        (lambda: projected_ascent(loss, gradient, at, 0.1, steps=4, restarts=3), 3 * (4 + 1 / 3)),
    ):
        spent.clear()
        call()
        assert sum(spent) / 2 == pytest.approx(cost)


def two_layers(seed: int = 0, steps: int = 150) -> tuple[nn.Sequential, MeanLoss]:
    """A small network trained on handwritten digits, and its loss on 256 of them."""
    torch.manual_seed(seed)
    digits = load_digits()
    x, y = torch.tensor(digits.data[:256] / 16), torch.tensor(digits.target[:256])
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        (nn.functional.cross_entropy(model(x), y) + 1e-3 * norm2(model)).backward()
        optimizer.step()

    def losses(model: nn.Module, rows: slice) -> Tensor:
        return nn.functional.cross_entropy(model(x[rows]), y[rows], reduction="none")

    batches = [slice(start, start + 64) for start in range(0, 256, 64)]
    return model, MeanLoss(model, FunctionObjective(losses, batches).batches())


def norm2(model: nn.Module) -> Tensor:
    return torch.stack([(p**2).sum() for p in model.parameters()]).sum()


@pytest.mark.parametrize("rho", [0.05, 0.5])
def test_on_digits_ascent_is_higher_than_one_step_and_both_than_nothing(rho: float) -> None:
    _, loss = two_layers()
    at, gradient = loss.gradient()
    for scale in (None, loss.weights.vector().abs()):
        step = one_step(loss, gradient, at, rho, scale)
        climbed = projected_ascent(loss, gradient, at, rho, scale=scale)
        assert 0 < step <= climbed
        assert climbed == projected_ascent(loss, gradient, at, rho, scale=scale)


def test_rescaling_of_units_changes_plain_sharpness_and_not_the_adaptive() -> None:
    """Dinh 2017: λ_max too says nothing of the function alone."""
    model, loss = two_layers(steps=40)
    found = []
    for alpha in (1.0, 5.0):
        with torch.no_grad():
            model[0].weight.mul_(alpha)
            model[0].bias.mul_(alpha)
            model[2].weight.div_(alpha)
        at, gradient = loss.gradient()
        scale = loss.weights.vector().abs()
        adaptive = projected_ascent(loss, gradient, at, 0.5, restarts=1, scale=scale)
        step = one_step(loss, gradient, at, 0.5, scale)
        plain = one_step(loss, gradient, at, 0.5)
        found.append((at, step, adaptive, plain, sharpest(loss)))
    (at, step, adaptive, plain, top), rescaled = found
    assert rescaled[:3] == pytest.approx((at, step, adaptive), rel=1e-5)
    assert abs(rescaled[3] - plain) > 0.1 * plain
    assert abs(rescaled[4] - top) > 0.5 * top


def sharpest(loss: MeanLoss) -> float:
    """λ_max by power iteration on differences of gradients."""
    v = torch.randn(loss.weights.size, dtype=torch.float64).div_(loss.weights.size**0.5)
    for _ in range(15):
        v /= v.norm()
        with loss.weights.moved(v, 1e-5):
            ahead = loss.gradient()[1]
        with loss.weights.moved(v, -1e-5):
            v = (ahead - loss.gradient()[1]) / 2e-5
    return float(v.norm())


def test_inner_products_do_not_lose_small_numbers() -> None:
    """Summed in float32, the ones would vanish beside the large number."""
    ones = torch.ones(3_000_000)
    ones[0] = 2.0**14
    assert inner(ones, ones) == 2.0**28 + 2_999_999
    assert norm(ones) == math.sqrt(2.0**28 + 2_999_999)
    assert inner(torch.zeros(0), torch.zeros(0)) == 0
