"""The gradient of a sample, and by groups of its batches what it tells of the true one.

Legend: n parameters, k groups of batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mergekit_geo.curvature.levels import GROUPS
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.modules.vectors import Floats, inner, norm

FEWEST_GROUPS = 3
"""Fewest groups for a jackknife over products of two different groups."""


@dataclass(frozen=True, eq=False)
class GroupGradients:
    """The gradient of a sample, and what it tells of the true one.

    The squared norm of a sample's gradient is that of the true gradient plus the trace of its
    noise. Products of the gradients of different groups have no such bias. They count by the
    groups' weights.

    Attributes:
        loss: Mean over the sample.
        gradient: (n,) of it.
        norm: Euclidean, of that gradient; biased up by noise.
        squared_norm: Unbiased estimate of the squared norm of the true gradient; it may be
            negative. None with one group.
        standard_error: Of it, by the jackknife over groups; where noise outweighs the gradient,
            it is 1.6 times too large with 8 groups. None with fewer than three.
        groups: Number of groups.
    """

    loss: float
    gradient: Tensor
    norm: float
    squared_norm: float | None
    standard_error: float | None
    groups: int

    @classmethod
    def of(cls, loss: MeanLoss, most: int = GROUPS) -> GroupGradients:
        """Gradients of groups of every k-th batch: k vectors (n,) in memory, one pass over data.

        Batches are taken to be independent: where windows of one document are in several groups,
        what they share counts as gradient.

        Args:
            loss: L, at θ.
            most: Groups, if there are so many batches.

        Raises:
            DataError: The loss is not a number.
        """
        count = min(most, len(loss.batches))
        sums = [loss.part(k, count).sums() for k in range(count)]
        weights_k = np.array([weight for _, weight, _ in sums])
        weight, parts = float(weights_k.sum()), [part for _, _, part in sums]
        gram_kk = _gram(parts)
        gradient = _total(parts).div_(weight)
        return cls(
            loss=sum(total for total, _, _ in sums) / weight,
            gradient=gradient,
            norm=norm(gradient),
            squared_norm=_squared_norm(gram_kk, weights_k),
            standard_error=_jackknife(gram_kk, weights_k),
            groups=count,
        )


def _total(parts: Sequence[Tensor]) -> Tensor:
    """The sum of vectors, in place of the first."""
    for part in parts[1:]:
        parts[0].add_(part)
    return parts[0]


def _gram(parts: Sequence[Tensor]) -> Floats:
    """(k, k) inner products."""
    gram_kk = np.empty((len(parts), len(parts)))
    for i, first in enumerate(parts):
        for j, second in enumerate(parts[: i + 1]):
            gram_kk[i, j] = gram_kk[j, i] = inner(first, second)
    return gram_kk


def _squared_norm(gram_kk: Floats, weights_k: Floats) -> float | None:
    """Σ_{i≠j} <G_i, G_j> / Σ_{i≠j} w_i w_j, with G_i = w_i g_i the summed gradient of a group."""
    pairs_kk = np.outer(weights_k, weights_k)
    np.fill_diagonal(pairs_kk, 0)
    if pairs_kk.sum() == 0:
        return None
    return float((gram_kk.sum() - np.trace(gram_kk)) / pairs_kk.sum())


def _jackknife(gram_kk: Floats, weights_k: Floats) -> float | None:
    """Standard error of that, from leaving out one group at a time (Tukey 1958)."""
    counting = np.flatnonzero(weights_k)
    if len(counting) < FEWEST_GROUPS:
        return None
    rows = [counting[counting != k] for k in counting]
    left = [_squared_norm(gram_kk[np.ix_(kept, kept)], weights_k[kept]) for kept in rows]
    spread = np.array(left, dtype=np.float64).var() * (len(counting) - 1)
    return math.sqrt(spread)
