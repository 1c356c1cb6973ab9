"""Whether training would go on from where a model stands: by its gradient, or down a saddle."""

from __future__ import annotations

import math

from scipy.special import stdtrit

from mergekit_geo.curvature.extremes import EXTREMES
from mergekit_geo.curvature.levels import GROUPS
from mergekit_geo.curvature.measure import LocalLoss, Measure
from mergekit_geo.curvature.slope import SLOPE
from mergekit_geo.evaluation.statistics import LEVEL, POWER
from mergekit_geo.records.curvature import Stationarity
from mergekit_geo.records.findings import limit_of, sized

ERRORS = 2.0
"""Standard errors above zero from which a squared norm is told from zero: without a gradient it is
so in 1 % of samples with 8 groups and in 6 % with 3 (normal noise in 1 to 1000 dimensions)."""
MATERIAL = 1e-3
"""Share of the loss that matters where its standard error is not known."""
TAU = 1e-3
"""Share of λ_max: curvature closer to zero is none. Lanczos and float32 tell no less apart."""


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
    text = "one step down the gradient does not lower the loss significantly, though many steps may"
    return f"{text}: {told}"


def _unseen(least: float, loss: float) -> str:
    if math.isinf(least):
        return "cannot tell whether a step down the gradient lowers the loss: λ_max is not positive"
    return (
        "cannot tell whether a step down the gradient lowers the loss: on so few examples only a "
        f"gain of {sized(least, loss)} or more would be detected"
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
    found = f"{lambda_min:.3g} ± {max(residual, error or 0.0):.2g}"
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


def _stationarity(at: LocalLoss) -> Stationarity:
    slope, extremes = at.of(SLOPE), at.of(EXTREMES)
    smallest, escaped = extremes.smallest, extremes.escape
    return verdict(
        loss=slope.loss,
        loss_error=slope.loss_error,
        squared_norm=slope.squared_norm,
        squared_norm_error=slope.squared_norm_error,
        lambda_max=extremes.largest.value,
        lambda_min=None if smallest is None else smallest.value,
        residual=None if smallest is None else smallest.residual,
        error=None if smallest is None else smallest.uncertainty,
        steps=extremes.steps,
        lowered=None if escaped is None else escaped.lowered,
        groups=slope.groups,
    )


STATIONARITY = Measure("stationarity", _stationarity)
