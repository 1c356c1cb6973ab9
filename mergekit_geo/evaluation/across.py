"""A mean over several evaluation sets, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mergekit_geo.evaluation.statistics import DocumentMean, students
from mergekit_geo.records.losses import Estimate
from mergekit_geo.tasks.losses import Floats


def mean_of(estimates: Sequence[DocumentMean]) -> Estimate:
    """Unweighted mean of one estimate a set, with Student's interval.

    The sets share no documents, so the variance of the mean of k is the sum of their squared errors
    over k^2. Its degrees of freedom are those of Welch (1947) and Satterthwaite (1946): those of
    the sets, pooled by the share of the variance that each has.

    Args:
        estimates: Such as the paired difference to the best parent on each set.

    Returns:
        Without an interval where a set has none; with one set, that set's own estimate.

    Example:
        >>> from mergekit_geo.evaluation.statistics import document_mean
        >>> code, chat = np.array([1.0, 2, 3, 4, 5]), np.array([0.0, 2, 4, 6, 8])
        >>> sets = [document_mean(v, np.ones(5), np.arange(5)) for v in (code, chat)]
        >>> found = mean_of(sets)
        >>> found.value, round(found.low, 2), round(found.high, 2)
        (3.5, 1.56, 5.44)
    """
    if len(estimates) == 1:
        return estimates[0].estimate
    value = float(np.mean([one.value for one in estimates]))
    errors = [one.error for one in estimates if one.error is not None]
    if len(errors) < len(estimates) or not math.isfinite(value):
        return Estimate(value=value, low=None, high=None)
    variances = np.square(errors)
    if not variances.any():
        return Estimate(value=value, low=value, high=value, detectable=0.0)
    error = math.sqrt(variances.sum()) / len(estimates)
    return students(value, error, _pooled(variances, [one.freedom for one in estimates]))


def _pooled(variances: Floats, freedoms: Sequence[float]) -> float:
    """Degrees of freedom of a sum of independent estimates of variances."""
    shares = variances / variances.sum()
    return float(1 / np.sum(shares**2 / np.asarray(freedoms)))
