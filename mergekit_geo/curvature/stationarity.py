"""Whether training would go on from where a model stands: by its gradient, or down a saddle.

Legend: n parameters, k groups of batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor

from mergekit_geo.curvature.levels import GROUPS
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.evaluation.statistics import LEVEL, POWER
from mergekit_geo.modules.vectors import inner, norm
from mergekit_geo.records.curvature import Escape, Stationarity
from mergekit_geo.records.findings import limit_of, sized

Floats = NDArray[np.float64]

ERRORS = 2.0
"""Standard errors above zero from which a squared norm is told from zero: without a gradient it is
so in 1 % of samples with 8 groups and in 6 % with 3 (normal noise in 1 to 1000 dimensions)."""
MATERIAL = 1e-3
"""Share of the loss that matters where its standard error is not known."""
TAU = 1e-3
"""Share of λ_max: curvature closer to zero is none. Lanczos and float32 tell no less apart."""

FEWEST_GROUPS = 3
"""Fewest groups for a jackknife over products of two different groups."""
LENGTHS = (0.02, 0.06, 0.2, 0.6, 2.0)
"""Lengths of the steps of a line search, in weight space."""


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


def verdict(
    *,
    loss: float,
    loss_error: float | None,
    squared_norm: float | None,
    squared_norm_error: float | None,
    lambda_max: float | None,
    lambda_min: float | None,
    residual: float | None,
    steps: int,
    lowered: bool | None,
    error: float | None = None,
    groups: int | None = None,
) -> Stationarity:
    """What the gradient, and then the curvature, say of a point.

    Not stationary where ||g||^2 is more than two standard errors above zero and the gain that it
    promises, ||g||^2 / (2 λ_max), is above the standard error of the loss or 2 % of the loss,
    whichever is smaller, or without an error above 1e-3 of the loss. Otherwise the gradient does
    not matter, unless a gain of 2 % of the loss could have gone unseen: then nothing is told. A
    saddle where λ_min + residual < -1e-3 |λ_max| and a step along ±v_min lowers the held-out loss.
    No gradients.

    Args:
        loss: L(θ).
        loss_error: Its standard error.
        squared_norm: ||g||^2 without bias, as in `GroupGradients`.
        squared_norm_error: Its standard error.
        lambda_max: Largest eigenvalue of the Hessian.
        lambda_min: Smallest.
        residual: Of it: an eigenvalue lies within this of it.
        steps: Of the iteration that found them.
        lowered: Whether a step along ±v_min lowers the held-out loss, as in `Escape`.
        error: Of λ_min over documents, if larger than the residual; for the words.
        groups: That the standard error of ||g||^2 is over; 8 if None.

    Example:
        >>> verdict(loss=2.5, loss_error=0.02, squared_norm=0.5, squared_norm_error=0.1,
        ...     lambda_max=4.0, lambda_min=-1.0, residual=0.01, steps=30, lowered=True).sentence
        'not stationary: a step down the gradient promises to lower the loss by 0.062'
    """
    top, bottom, slack = _number(lambda_max), _number(lambda_min), _number(residual)
    gain = _gain(_number(squared_norm), _number(squared_norm_error), top)
    if math.isnan(gain):
        return Stationarity(
            kind="not measured", sentence="needs λ_max and the gradients of three batches"
        )
    limit = limit_of(loss)
    least = _detectable(_number(squared_norm_error), top, groups or GROUPS)
    if gain > (MATERIAL * abs(loss) if loss_error is None else min(loss_error, limit)):
        promise = "without end" if math.isinf(gain) else f"by {gain:.2g}"
        text = f"not stationary: a step down the gradient promises to lower the loss {promise}"
        return Stationarity(kind="not stationary", sentence=text, detectable=least)
    if least > limit:
        return Stationarity(kind="cannot tell", sentence=_unseen(least, loss), detectable=least)
    if math.isnan(bottom + slack):
        text = f"{_seen(least, loss)}; λ_min was not measured"
        return Stationarity(kind="not measured", sentence=text, detectable=least)
    found = _by_curvature(bottom, slack, TAU * abs(top), steps, lowered, error)
    return found.model_copy(update={"detectable": least})


def _detectable(error: float, lambda_max: float, groups: int) -> float:
    """The gain of a step down the gradient that is told from none four times in five."""
    errors = sum(stdtrit(max(groups - 1, 1), share) for share in ((1 + LEVEL) / 2, POWER))
    if error == 0:
        return 0.0
    return float(errors * error / (2 * lambda_max)) if lambda_max > 0 else math.inf


def _seen(least: float, loss: float) -> str:
    """One step is what was looked at: many small ones along flatter directions may go further."""
    told = f"a gain of {sized(least, loss)} would be detected" if least else "it is zero"
    return f"one step down the gradient gains nothing that matters, though many may: {told}"


def _unseen(least: float, loss: float) -> str:
    if math.isinf(least):
        return "cannot tell whether the gradient matters: λ_max is not positive"
    return (
        "cannot tell whether the gradient matters: on so few examples only one that promises "
        f"{sized(least, loss)} or more would be detected"
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _gain(squared_norm: float, error: float, lambda_max: float) -> float:
    """What a step of length ||g|| / λ_max down the gradient lowers a parabola by, at least.

    0 where the gradient cannot be told from none, NaN where something is not known.
    """
    if math.isnan(squared_norm + error + lambda_max):
        return math.nan
    if squared_norm <= ERRORS * error:
        return 0.0
    return squared_norm / (2 * lambda_max) if lambda_max > 0 else math.inf


def _by_curvature(
    lambda_min: float,
    residual: float,
    tau: float,
    steps: int,
    lowered: bool | None,
    error: float | None,
) -> Stationarity:
    found = f"{lambda_min:.3g} ± {max(residual, error or 0.0):.1g}"
    if lambda_min + residual >= -tau:
        return Stationarity(
            kind="no negative curvature", sentence=f"no negative curvature found in {steps} steps"
        )
    if lowered is None:
        text = f"negative curvature {found}, and no held-out loss to see whether it goes down there"
        return Stationarity(kind="not measured", sentence=text)
    if not lowered:
        text = f"no negative curvature found in {steps} steps that other examples share"
        return Stationarity(
            kind="no negative curvature", sentence=f"{text}: {found} on the sample alone"
        )
    text = f"a saddle: along a direction of curvature {found} a step lowers the held-out loss"
    return Stationarity(kind="saddle", sentence=text)


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


def _change(loss: MeanLoss, direction: Tensor, scale: float) -> float:
    """Change of the loss after a step along a direction."""
    if scale == 0:
        return 0.0
    with loss.weights.moved(direction, scale):
        there = loss.value()
    return there - loss.value()
