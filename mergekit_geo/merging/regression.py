"""The regression mean of one linear layer (Jin et al. 2023, arXiv 2212.09849, equation 4).

Shapes: w input features, v output features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CUTOFF = 1e-6
"""Eigenvalues below this share of the largest are noise of Gram matrices in float32."""


@dataclass(frozen=True)
class Regression:
    """What the inputs' Gram matrices are made of before they weigh.

    Attributes:
        alpha: Factor of their off-diagonal entries: 1 is the regression itself, 0 weighs every
            input feature by its energy in each model.
        ridge: What holds the solution at the mean, as a share of the mean energy of a feature.
    """

    alpha: float = 0.9
    ridge: float = 0.0


@dataclass(frozen=True)
class Solved:
    """A merged weight.

    Attributes:
        weight_vw: (v, w), float64.
        error: Residual of the linear system on a random vector, relative to its right side.
        rank: How many directions of the inputs the Gram matrices determine.
    """

    weight_vw: Tensor
    error: float
    rank: int


def regression_mean(
    weights_vw: Sequence[Tensor],
    gram_of: Callable[[int], Tensor],
    shares: Sequence[float],
    how: Regression = Regression(),
    tick: Callable[[], None] = lambda: None,
) -> Solved:
    """The weight whose outputs differ least from those of all models, each on its own inputs.

    The minimum over W of Σ λ_i tr (W - W_i) G̃_i (W - W_i)ᵀ + r |W - M|², with G̃_i = α G_i +
    (1 - α) diag G_i and M = Σ λ_i W_i: W = M + (Σ λ_i (W_i - M) G̃_i) (Σ λ_i G̃_i + r I)⁻¹, which is
    the paper's formula where r = 0. Of input features of which no model has seen anything, and of
    directions that the Gram matrices do not determine, it is the mean M. In float64.

    Args:
        weights_vw: W_i, the models': (v, w) each.
        gram_of: XᵀX / n of a model's inputs, by its number: (w, w), one at a time.
        shares: λ_i, which sum to one.
        how: α, and r.
        tick: Called between two products.

    Example:
        >>> weights = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])]
        >>> grams = [torch.diag(torch.tensor([3.0, 1.0])), torch.diag(torch.tensor([1.0, 1.0]))]
        >>> regression_mean(weights, grams.__getitem__, [0.5, 0.5]).weight_vw
        tensor([[0.7500, 0.5000]], dtype=torch.float64)
    """
    mean_vw = torch.zeros_like(weights_vw[0], dtype=torch.float64)
    for share, weight in zip(shares, weights_vw, strict=True):
        mean_vw.add_(weight, alpha=share)
    right_vw = torch.zeros_like(mean_vw)
    gram_ww = mean_vw.new_zeros(mean_vw.shape[1], mean_vw.shape[1])
    for number, share in enumerate(shares):
        own_ww = _shrunk(gram_of(number).to(mean_vw), how.alpha).mul_(share)
        right_vw.addmm_(weights_vw[number] - mean_vw, own_ww)
        gram_ww.add_(own_ww)
        del own_ww
        tick()
    diagonal_w = gram_ww.diagonal()
    diagonal_w.add_(how.ridge * float(diagonal_w.mean()))
    step_vw, rank = _right_divided(right_vw, gram_ww, tick)
    return Solved(mean_vw.add_(step_vw), _residual(step_vw, gram_ww, right_vw), rank)


def memory(shape: tuple[int, int], count: int) -> int:
    """Bytes that the weights (v, w) of so many models take at most, with all that is made of them.

    Example:
        >>> memory((2, 3), 2)
        696
    """
    v, w = shape
    return 8 * ((count + 5) * v * w + 5 * w * w)


def _shrunk(gram_ww: Tensor, alpha: float) -> Tensor:
    """Multiply the entries off the diagonal by a factor, in place."""
    diagonal_w = gram_ww.diagonal().clone()
    gram_ww.mul_(alpha).diagonal().copy_(diagonal_w)
    return gram_ww


def _right_divided(
    right_vw: Tensor, gram_ww: Tensor, tick: Callable[[], None]
) -> tuple[Tensor, int]:
    """X of X G = R, by a Cholesky factor of G with a unit diagonal, and the rank that was used."""
    scale_w = gram_ww.diagonal().clamp_min(0).sqrt()
    dead_w = scale_w == 0
    inverse_w = torch.where(dead_w, 0.0, 1 / scale_w)
    unit_ww = gram_ww * inverse_w[:, None] * inverse_w
    unit_ww.diagonal().masked_fill_(dead_w, 1.0)
    scaled_vw = right_vw * inverse_w
    tick()
    lower_ww, fault = torch.linalg.cholesky_ex(unit_ww)
    seen = int((~dead_w).sum())
    if int(fault) == 0 and float(lower_ww.diagonal().min()) > math.sqrt(CUTOFF):
        solved_wv = torch.cholesky_solve(scaled_vw.T, lower_ww)
        return solved_wv.T * inverse_w, seen
    del lower_ww
    values_w, vectors_ww = torch.linalg.eigh(unit_ww)
    kept = values_w > CUTOFF * values_w[-1]
    basis = vectors_ww[:, kept]
    solved_vw = (scaled_vw @ basis / values_w[kept]) @ basis.T
    return solved_vw * inverse_w, int(kept.sum()) - int(dead_w.sum())


def _residual(step_vw: Tensor, gram_ww: Tensor, right_vw: Tensor) -> float:
    """|(X G - R) z| / |R z| of a fixed random vector z; 0 where R is nothing."""
    draw = torch.Generator().manual_seed(0)
    probe_w = torch.randn(len(gram_ww), generator=draw, dtype=torch.float64).to(gram_ww)
    wanted_v = right_vw @ probe_w
    size = float(wanted_v.norm())
    return float((step_vw @ (gram_ww @ probe_w) - wanted_v).norm()) / size if size else 0.0
