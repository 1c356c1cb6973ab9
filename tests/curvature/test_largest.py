"""λ_max by differences, where the loss is a parabola along its top eigenvector for a short way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mergekit_geo.curvature.hessian import Hessian
from mergekit_geo.curvature.lanczos import extremes_converged, random_start
from mergekit_geo.curvature.largest import krylov_of, lambda_max
from mergekit_geo.curvature.levels import DIFFERENCES, EXACT
from mergekit_geo.curvature.mean_loss import MeanLoss

SIZE, SHARP = 20_000, 80.0


class Valley(nn.Module):
    """A broad bowl, and one direction of curvature 80 whose slope is full after a hundredth."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.weights = nn.Parameter(0.01 * torch.randn(SIZE, generator=draw))
        across = torch.randn(SIZE, generator=draw)
        self.register_buffer("across", across / across.norm())
        self.place = float(self.across @ self.weights.detach())

    def forward(self) -> Tensor:
        """log cosh(80 x) / 80 has the curvature 80 at 0."""
        x = self.across @ self.weights - self.place
        steep = torch.log(torch.cosh(SHARP * (x + 0.001))) / SHARP
        return (steep + 0.05 * self.weights.square().sum()).reshape(1)


def loss_of(model: Valley) -> MeanLoss:
    return MeanLoss(model, [lambda model: (model(), torch.ones(1))])


def test_a_step_that_is_too_long_for_the_top_eigenvector_is_shortened() -> None:
    stop = extremes_converged(1e-3, "largest")
    start = random_start(SIZE, torch.float32, 0)
    exact = krylov_of(Hessian(loss_of(Valley()), EXACT), start, 12, stop=stop, keep_basis=True)
    truth = float(exact.values[-1])
    assert truth == pytest.approx(
        SHARP / torch.cosh(torch.tensor(0.08)).item() ** 2 + 0.1, rel=1e-3
    )
    for keep in (True, False):
        hessian = Hessian(loss_of(Valley()), DIFFERENCES)
        found = krylov_of(hessian, start, 12, stop=stop, keep_basis=keep)
        assert float(found.values[-1]) == pytest.approx(truth, rel=0.01)
        assert hessian.step < 1e-3
    assert lambda_max(loss_of(Valley())) == pytest.approx(truth, rel=0.02)
    coarse = Hessian(loss_of(Valley()), DIFFERENCES)
    coarse.fit_step(start)
    top = exact.vector(-1)
    assert float(coarse.product(top) @ top) < 0.8 * truth
