"""The loss along one direction: how curved that of every example is, and a line search.

The curvature of an example is v^T H_i v of the Hessian of its loss. At the eigenvector of λ their
mean is λ, and the jackknife over documents tells how sure that is. By second differences of the
losses themselves: three evaluations, the price of one gradient, where Hessian-vector products of
single documents would take one each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.evaluation.objective import Objective
from mergekit_geo.modules.vectors import norm
from mergekit_geo.records.curvature import Escape
from mergekit_geo.tasks.losses import Floats, Losses

EVALUATIONS = 3

CHANGE = {torch.float32: 2e-5, torch.float64: 1e-8}
"""What a step should change the loss by: the error from rounding falls with its square, that from
the loss being no parabola grows with it (about 1 % of λ on small networks)."""

LONGEST = 0.03
"""No step of `quotients` is longer, however flat the loss."""

LENGTHS = (0.02, 0.06, 0.2, 0.6, 2.0)
"""Lengths of the steps of a line search, in weight space."""


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


def escape(
    loss: MeanLoss,
    v_min: Tensor,
    at: float,
    *,
    held_out: MeanLoss | None = None,
    lengths: Sequence[float] = LENGTHS,
) -> Escape:
    """Line search along ±v_min on a geometric grid.

    The step is chosen on one sample and looked at on the other. Two evaluations a length (2/3
    gradient), and two of the held-out loss.

    Args:
        loss: L, at θ; chooses.
        v_min: (n,) of any length but zero.
        at: L(θ).
        held_out: Of the same module, on other examples.
        lengths: Of the steps, in weight space.
    """
    unit = norm(v_min)
    losses = {0.0: at}
    for step in (sign * length for length in lengths for sign in (1, -1)):
        with loss.weights.moved(v_min, step / unit):
            losses[step] = loss.value()
    best = min((step for step in losses if math.isfinite(losses[step])), key=losses.__getitem__)
    elsewhere = None if held_out is None else _change(held_out, v_min, best / unit)
    return Escape(step=best, change=losses[best] - at, held_out=elsewhere)


def _change(loss: MeanLoss, direction: Tensor, scale: float) -> float:
    """Change of the loss after a step along a direction."""
    if scale == 0:
        return 0.0
    with loss.weights.moved(direction, scale):
        there = loss.value()
    return there - loss.value()
