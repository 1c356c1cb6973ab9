"""v^T H_i v of every example, beside derivatives of each, and how sure that makes λ_max."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import sharpness_interval
from mergekit_geo.curvature.direction import EVALUATIONS, quotients
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.evaluation.objective import FunctionObjective
from mergekit_geo.evaluation.statistics import mean_loss
from mergekit_geo.tasks.losses import Losses


def losses_of(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
    found = nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
    return {"loss": found, "weight": batch[2]}


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 2e-2), (torch.float64, 1e-4)])
@pytest.mark.parametrize("length", [1.0, 50.0])
def test_each_is_the_second_derivative_of_its_loss(
    dtype: torch.dtype, error: float, length: float
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype)
    inputs, labels = torch.randn(12, 5, dtype=dtype), torch.arange(12) % 3
    weights = torch.arange(1.0, 13.0)
    batches = list(zip(inputs.split(5), labels.split(5), weights.split(5), strict=True))
    spent: list[float] = []
    objective = FunctionObjective(losses_of, batches)
    loss = MeanLoss(model, objective.batches(), spent.append)
    vector = torch.randn(loss.weights.size, dtype=dtype)
    vector *= length / vector.norm()
    before = loss.weights.vector()

    def one(step: Tensor, i: int) -> Tensor:
        parts = zip(model.named_parameters(), loss.weights.views(vector / length), strict=True)
        moved = {name: p + step * part for (name, p), part in parts}
        logits = torch.func.functional_call(model, moved, inputs[i : i + 1])
        return nn.functional.cross_entropy(logits, labels[i : i + 1])

    truth = []
    for i in range(12):
        step = torch.zeros((), dtype=dtype, requires_grad=True)
        (slope,) = torch.autograd.grad(one(step, i), step, create_graph=True)
        truth.append(float(torch.autograd.grad(slope, step)[0]))
    found = quotients(loss, objective, vector, float(np.average(truth, weights=weights)))
    np.testing.assert_allclose(found.loss, truth, atol=error * np.abs(truth).max())
    np.testing.assert_array_equal(found.weight, weights)
    assert torch.equal(before, loss.weights.vector())
    assert sum(spent) == pytest.approx(EVALUATIONS / 3 * len(batches))


@pytest.mark.slow
def test_their_mean_is_the_eigenvalue_and_their_spread_its_error() -> None:
    """On samples of digits: the interval holds λ_max of all digits, Lanczos' residual does not."""
    model = sharpness_interval.network(0)
    truth = sharpness_interval.sharpness(model, torch.arange(1797)).value
    draw, held, bare, values, errors = torch.Generator().manual_seed(1), 0, 0, [], []
    rounds = 25
    for _ in range(rounds):
        found = sharpness_interval.sharpness(model, torch.randint(1797, (64,), generator=draw))
        assert found.sure.value == pytest.approx(found.value, rel=2e-3)
        held += sharpness_interval.holds(found.sure, found.value, truth)
        bare += abs(found.value - truth) <= found.residual
        values.append(found.value)
        errors.append(found.sure.error)
    assert held >= 0.85 * rounds
    assert bare <= 0.1 * rounds
    assert 0.6 < np.mean(errors) / np.std(values) < 1.8


def test_documents_count_and_not_their_examples() -> None:
    """Twice the same examples in the same documents are no surer."""
    draw = np.random.default_rng(0)
    values, document = draw.normal(3, 1, size=20), np.arange(20)
    once = mean_loss(Losses(values, np.ones(20), document))
    twice = mean_loss(Losses(np.tile(values, 2), np.ones(40), np.tile(document, 2)))
    assert once.error == pytest.approx(twice.error)
