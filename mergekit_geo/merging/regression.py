"""The regression mean of one linear layer (Jin et al. 2023, arXiv 2212.09849, equation 4).

Shapes: w input features, v output features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mergekit_geo.merging.regmean import PUBLISHED, ROWS, Regression

CUTOFF = 1e-6
"""Eigenvalues below this share of the largest are noise of Gram matrices in float32."""


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
    how: Regression = PUBLISHED,
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
    rows = [slice(i, i + ROWS) for i in range(0, len(weights_vw[0]), ROWS)]
    right_vw = torch.zeros_like(weights_vw[0], dtype=torch.float64)
    gram_ww = right_vw.new_zeros(right_vw.shape[1], right_vw.shape[1])
    for number, share in enumerate(shares):
        own_ww = _shrunk(gram_of(number).to(right_vw, copy=True), how.alpha).mul_(share)
        for part in rows:
            apart = weights_vw[number][part] - _mean(weights_vw, shares, part)
            right_vw[part].addmm_(apart, own_ww)
            tick()
        gram_ww.add_(own_ww)
        del own_ww
    energy_w = gram_ww.diagonal()
    energy_w.add_(how.ridge * float(energy_w.mean()))
    factor, residual = _Factor(gram_ww), _Residual(gram_ww)
    for part in rows:
        step = factor.divided(right_vw[part])
        residual.add(step, right_vw[part])
        right_vw[part] = step.add_(_mean(weights_vw, shares, part))
        tick()
    return Solved(right_vw, residual.share, factor.rank)


def _mean(weights_vw: Sequence[Tensor], shares: Sequence[float], part: slice) -> Tensor:
    """The weighted mean of some rows."""
    found = torch.zeros_like(weights_vw[0][part], dtype=torch.float64)
    for share, weight_vw in zip(shares, weights_vw, strict=True):
        found.add_(weight_vw[part], alpha=share)
    return found


def _shrunk(gram_ww: Tensor, alpha: float) -> Tensor:
    """Multiply the entries off the diagonal by a factor, in place."""
    diagonal_w = gram_ww.diagonal().clone()
    gram_ww.mul_(alpha).diagonal().copy_(diagonal_w)
    return gram_ww


class _Factor:
    """What divides by a Gram matrix: a Cholesky factor or, where it has no full rank, eigenvectors.

    Features are scaled to unit energy first; those without energy are left out.
    """

    def __init__(self, gram_ww: Tensor) -> None:
        scale_w = gram_ww.diagonal().clamp_min(0).sqrt()
        dead_w = scale_w == 0
        self._inverse_w = torch.where(dead_w, 0.0, 1 / scale_w)
        unit_ww = gram_ww * self._inverse_w[:, None] * self._inverse_w
        unit_ww.diagonal().masked_fill_(dead_w, 1.0)
        dead = int(dead_w.sum())
        self._lower_ww, fault = torch.linalg.cholesky_ex(unit_ww)
        self._is_whole = not int(fault) and _least(self._lower_ww) > math.sqrt(CUTOFF)
        self.rank = len(gram_ww) - dead
        if not self._is_whole:
            del self._lower_ww
            values_w, vectors_ww = torch.linalg.eigh(unit_ww)
            kept = values_w > CUTOFF * values_w[-1]
            self._values, self._basis = values_w[kept], vectors_ww[:, kept]
            self.rank = int(kept.sum()) - dead

    def divided(self, right_vw: Tensor) -> Tensor:
        """R G⁻¹, by the pseudoinverse of the scaled G."""
        scaled_vw = right_vw * self._inverse_w
        if self._is_whole:
            solved_wv: Tensor = torch.cholesky_solve(scaled_vw.T, self._lower_ww)
            return solved_wv.T * self._inverse_w
        found_vw: Tensor = (scaled_vw @ self._basis / self._values) @ self._basis.T
        return found_vw * self._inverse_w


class _Residual:
    """|(X G - R) z| / |R z| of a fixed random vector z, over all rows; 0 where R is nothing."""

    def __init__(self, gram_ww: Tensor) -> None:
        draw = torch.Generator().manual_seed(0)
        probe_w = torch.randn(len(gram_ww), generator=draw, dtype=torch.float64)
        self._probe_w = probe_w.to(gram_ww)
        self._image_w = gram_ww @ self._probe_w
        self._off = self._whole = 0.0

    def add(self, step_vw: Tensor, right_vw: Tensor) -> None:
        """Take rows of X and R."""
        wanted_v = right_vw @ self._probe_w
        self._off += float((step_vw @ self._image_w - wanted_v).square().sum())
        self._whole += float(wanted_v.square().sum())

    @property
    def share(self) -> float:
        """The ratio."""
        return math.sqrt(self._off / self._whole) if self._whole else 0.0


def _least(lower_ww: Tensor) -> float:
    return float(lower_ww.diagonal().min())
