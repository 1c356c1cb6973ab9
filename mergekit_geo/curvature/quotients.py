"""The curvature along a direction, example by example: v^T H_i v of the Hessian of each loss.

At the eigenvector of λ their mean is λ, and the jackknife over documents tells how sure that is. By
second differences of the losses themselves: three evaluations, the price of one gradient, where
Hessian-vector products of single documents would take one each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.evaluation.objective import Objective
from mergekit_geo.modules.vectors import norm
from mergekit_geo.tasks.losses import Floats, Losses

EVALUATIONS = 3

CHANGE = {torch.float32: 2e-5, torch.float64: 1e-8}
"""What a step should change the loss by: the error from rounding falls with its square, that from
the loss being no parabola grows with it (about 1 % of λ on small networks)."""

LONGEST = 0.03
"""No step is longer, however flat the loss."""


def quotients(loss: MeanLoss, objective: Objective, direction: Tensor, curvature: float) -> Losses:
    """Second derivative of every example's loss along a direction.

    Args:
        loss: L, at θ.
        objective: The same examples, measured one by one.
        direction: (n,) of any length but zero; v is the unit vector along it.
        curvature: v^T H v about, which sets the step.

    Returns:
        The second derivatives in place of the losses.
    """
    length = norm(direction)
    here = objective.measure(loss.model)
    change = CHANGE[loss.weights.dtype] * max(abs(here.mean), 1.0)
    step = min(math.sqrt(2 * change / max(abs(curvature), 1e-12)), LONGEST)
    ahead, behind = (_losses(loss, objective, direction, sign * step / length) for sign in (1, -1))
    loss.spend(EVALUATIONS / 3 * len(loss.batches))
    return Losses((ahead - 2 * here.loss + behind) / step**2, here.weight, here.document)


def _losses(loss: MeanLoss, objective: Objective, direction: Tensor, scale: float) -> Floats:
    with loss.weights.moved(direction, scale):
        return objective.measure(loss.model).loss
