"""Average-case sharpness against parabolas, whose averages are known."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.curvature.rise import average_sharpness
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.evaluation.objective import FunctionObjective

SIZE = 40


class Point(nn.Module):
    """One vector of parameters."""

    def __init__(self, at: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(at.clone())


def function(of: Callable[[Tensor], Tensor], at: Tensor) -> MeanLoss:
    """A function of a vector as a mean loss."""
    objective = FunctionObjective(lambda model, batch: of(model.x)[None], [0])
    return MeanLoss(Point(at), objective.batches())


def matrix() -> Tensor:
    """Symmetric, with curvature up and down."""
    draw = torch.Generator().manual_seed(3)
    a = torch.randn(SIZE, SIZE, generator=draw, dtype=torch.float64)
    return (a + a.T) / 2 + 2 * torch.diag(torch.linspace(0, 3, SIZE, dtype=torch.float64))


BOTTOM = torch.linspace(-2, 3, SIZE, dtype=torch.float64)
SIGMA = 0.3


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("slope", [0.0, 100.0])
def test_average_over_a_parabola(adaptive: bool, slope: float) -> None:
    """Half of sigma^2 tr A, or of rho^2 Σ θ_i^2 A_ii; a slope cancels."""
    a = matrix()
    x = BOTTOM
    loss = function(lambda y: 0.5 * (y - x) @ a @ (y - x) + slope * (y - x).sum() + 5, x)
    scale = x.abs() if adaptive else None
    squares = x**2 if adaptive else torch.ones_like(x)
    truth = 0.5 * SIGMA**2 * float(squares @ a.diagonal())
    found = average_sharpness(loss, loss.value(), SIGMA, draws=200, scale=scale)
    assert found.standard_error is not None
    assert abs(found.value - truth) < 3 * found.standard_error
    s = SIGMA**2 * torch.diag(squares) @ a
    spread = math.sqrt(0.5 * float(torch.trace(s @ s)))  # of 1/2 e^T A e, e Gaussian
    assert found.standard_error == pytest.approx(spread / math.sqrt(200), rel=0.2)
    assert torch.equal(loss.weights.vector(), x)


def test_standard_error_is_that_of_the_mean() -> None:
    """Over repetitions, the value strays by its standard error."""
    a, x = matrix(), BOTTOM
    loss = function(lambda y: 0.5 * (y - x) @ a @ (y - x), x)
    found = [average_sharpness(loss, 0.0, SIGMA, draws=4, seed=seed) for seed in range(150)]
    values = torch.tensor([one.value for one in found])
    errors = torch.tensor([one.standard_error for one in found])
    assert float(values.std()) == pytest.approx(float((errors**2).mean().sqrt()), rel=0.2)


def test_noise_is_of_the_seed_alone() -> None:
    loss = function(lambda y: y @ y, torch.ones(SIZE))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = average_sharpness(loss, loss.value(), 0.1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert average_sharpness(loss, loss.value(), 0.1) == first
    assert average_sharpness(loss, loss.value(), 0.1, seed=1) != first


def network(alpha: float) -> MeanLoss:
    """Two ReLU layers; the first times alpha and the second over it is the same function."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    x, y = torch.randn(50, 6, dtype=torch.float64), torch.randint(0, 3, (50,))
    with torch.no_grad():
        model[0].weight.mul_(alpha)
        model[0].bias.mul_(alpha)
        model[2].weight.div_(alpha)
    objective = FunctionObjective(
        lambda model, batch: nn.functional.cross_entropy(model(x), y, reduction="none"), [0]
    )
    return MeanLoss(model, objective.batches())


def test_rescaling_of_units_changes_plain_averages_and_not_the_adaptive() -> None:
    found = []
    for alpha in (1.0, 4.0):
        loss = network(alpha)
        at, scale = loss.value(), loss.weights.vector().abs()
        adaptive = average_sharpness(loss, at, 0.2, scale=scale)
        plain = average_sharpness(loss, at, 0.2)
        found.append((at, adaptive.value, adaptive.standard_error, plain.value))
    assert found[1][:3] == pytest.approx(found[0][:3], rel=1e-5)
    assert abs(found[1][3] - found[0][3]) > 0.2 * found[0][3]


@pytest.mark.parametrize("wall", [math.inf, math.nan])
def test_where_the_loss_is_not_finite_there_is_no_error(wall: float) -> None:
    loss = function(lambda x: x.sum() * (1 if x[0] < 1 else wall), torch.ones(4) * 0.5)
    found = average_sharpness(loss, loss.value(), 3.0)
    assert found.value == wall or math.isnan(found.value)
    assert found.standard_error is None


def test_settings_that_cannot_be_meant() -> None:
    loss = function(torch.sum, torch.ones(3))
    for rho in (0.0, -1.0, math.nan):
        with pytest.raises(ArgumentError, match="rho: expected a positive number, found"):
            average_sharpness(loss, 3.0, rho)
    with pytest.raises(ArgumentError, match="draws: expected at least 2, found 1"):
        average_sharpness(loss, 3.0, 0.1, draws=1)


def test_cost_and_an_error_in_the_middle() -> None:
    spent: list[float] = []

    def piece(model: nn.Module) -> tuple[Tensor, Tensor]:
        if len(spent) == 6:
            raise DataError("out of order")
        return (model.x @ model.x)[None], torch.ones(1)

    start = torch.randn(5)
    loss = MeanLoss(Point(start), [piece], spent.append)
    average_sharpness(loss, 1.0, 0.1, draws=3)
    assert sum(spent) == pytest.approx(3 * 2 / 3)
    with pytest.raises(DataError, match="out of order"):
        average_sharpness(loss, 1.0, 0.1)
    assert torch.equal(loss.weights.vector(), start)
