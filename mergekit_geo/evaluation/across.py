"""A mean over several evaluation sets, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mergekit_geo.config.aim import WORST, AimConfig
from mergekit_geo.evaluation.statistics import DocumentMean, students
from mergekit_geo.records.losses import Estimate
from mergekit_geo.tasks.losses import Floats


def mean_of(estimates: Sequence[DocumentMean], weights: Sequence[float] | None = None) -> Estimate:
    """Mean of one estimate a set, with Student's interval.

    The sets share no documents, so the variance of the mean is the sum of their squared errors,
    each times the square of its share of the weight. Its degrees of freedom are those of Welch
    (1947) and Satterthwaite (1946): the sets' own, pooled by the part of the variance that each
    has.

    Args:
        estimates: Such as the paired difference to the best parent on each set.
        weights: What each set counts, from 0 on; all the same if None.

    Returns:
        Without an interval where a set that counts has none; of one set, that set's own estimate.

    Example:
        >>> from mergekit_geo.evaluation.statistics import document_mean
        >>> code, chat = np.array([1.0, 2, 3, 4, 5]), np.array([0.0, 2, 4, 6, 8])
        >>> sets = [document_mean(v, np.ones(5), np.arange(5)) for v in (code, chat)]
        >>> found = mean_of(sets)
        >>> found.value, round(found.low, 2), round(found.high, 2)
        (3.5, 1.56, 5.44)
        >>> mean_of(sets, [3, 1]).value
        3.25
    """
    every = [1.0] * len(estimates) if weights is None else weights
    counted = [(one, w) for one, w in zip(estimates, every, strict=True) if w > 0]
    assert counted, "no set counts"
    if len(counted) == 1:
        return counted[0][0].estimate
    shares = np.array([weight for _, weight in counted]) / sum(weight for _, weight in counted)
    sets = [one for one, _ in counted]
    return sum_of(sets, shares)


def estimate_of(aim: AimConfig, sets: Sequence[DocumentMean], weights: Sequence[float]) -> Estimate:
    """What an aim makes of one estimate a set: that of the worst set, or the mean of all.

    Args:
        aim: What is minimised.
        sets: Such as the paired difference to the best model on each set.
        weights: What each set counts in a mean.
    """
    if aim.aim == WORST:
        return max(sets, key=lambda one: one.value).estimate
    return mean_of(sets, weights)


def sum_of(sets: Sequence[DocumentMean], factors: Sequence[float] | Floats) -> Estimate:
    """A sum of estimates that share no documents, each times a factor, with Student's interval.

    Args:
        sets: The estimates.
        factors: One each; those of a mean sum to one.

    Returns:
        Without an interval where one of them has none; degrees of freedom are pooled as in
        `mean_of`.
    """
    shares = np.asarray(factors, dtype=np.float64)
    value = float(shares @ [one.value for one in sets])
    errors = [one.error for one in sets if one.error is not None]
    if len(errors) < len(sets) or not math.isfinite(value):
        return Estimate(value=value, low=None, high=None)
    variances = np.square(shares * errors)
    if not variances.any():
        return Estimate(value=value, low=value, high=value, detectable=0.0)
    freedom = variances.sum() ** 2 / (variances**2 @ [1 / one.freedom for one in sets])
    return students(value, math.sqrt(variances.sum()), float(freedom))
