"""How sure a mean over documents is, and a difference of two from the same examples."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mergekit_geo.tasks.losses import Floats, Indices, Losses

FEWEST_DOCUMENTS = 5
LEVEL = 0.95
POWER = 0.8


@dataclass(frozen=True)
class Estimate:
    """A number and how far it can be trusted.

    Attributes:
        value: The estimate.
        low: Lower end of its 95 % interval; None with too few documents for one, or where a value
            is not finite.
        high: Upper end.
        documents: How many documents it rests on.
        error: Standard error; None where there is no interval.
        detectable: The smallest size of such a quantity that would be told from zero four times in
            five (two-sided 5 %, power 80 %): 2.8 standard errors, more with few documents.
    """

    value: float
    low: float | None
    high: float | None
    documents: int
    error: float | None = None
    detectable: float | None = None

    @property
    def is_significant(self) -> bool | None:
        """Whether the interval excludes zero; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return self.low > 0 or self.high < 0


def mean_loss(losses: Losses) -> Estimate:
    """Mean loss per token with its interval."""
    return estimate(losses.loss, losses.weight, losses.document)


def paired_difference(first: Losses, second: Losses) -> Estimate:
    """Mean loss of the first minus that of the second, on the same examples.

    Args:
        first: Losses of one model.
        second: Losses of the other, same examples in the same order.
    """
    assert np.array_equal(first.document, second.document), "not the same examples"
    return estimate(first.loss - second.loss, first.weight, first.document)


def mean_score(losses: Losses) -> Estimate | None:
    """Share of right answers with its interval; None where the task has none."""
    if losses.score is None:
        return None
    return estimate_share(losses.score, losses.weight, losses.document)


def paired_score(first: Losses, second: Losses) -> Estimate | None:
    """Score of the first minus that of the second on the same examples, with its interval."""
    if first.score is None or second.score is None:
        return None
    if np.array_equal(first.loss, second.loss):  # one model, which has one score
        return estimate(first.score - second.score, first.weight, first.document)
    return estimate_share(first.score - second.score, first.weight, first.document)


def estimate_share(values: Floats, weights: Floats, document: Indices) -> Estimate:
    """Mean and interval as `estimate` gives them, for shares or differences of shares.

    Where all are the same, documents of another kind may only not have been drawn: the ends are
    those of a share of which n documents show nothing, 1 - 0.05^(1/n), or about 3 / n (Hanley and
    Lippman-Hand 1983).

    Example:
        >>> found = estimate_share(np.ones(30), np.ones(30), np.arange(30))
        >>> round(found.low, 3), found.high
        (0.905, 1.0)
    """
    found = estimate(values, weights, document)
    if found.error != 0:
        return found
    unseen = 1 - (1 - LEVEL) ** (1 / found.documents)
    low, high = max(found.value - unseen, -1.0), min(found.value + unseen, 1.0)
    return replace(found, low=low, high=high, detectable=1 - (1 - POWER) ** (1 / found.documents))


def estimate(values: Floats, weights: Floats, document: Indices) -> Estimate:
    """Weighted mean of one number an example, with an interval over documents.

    Documents are the independent units, not windows: windows of one document are alike. The error
    is the jackknife's over documents (Tukey 1958), the interval Student's with the degrees of
    freedom of Bell and McCaffrey (2002), fewer where a few long documents outweigh the others.
    Chosen by coverage on made-up documents (`benchmarks/interval_coverage.py`): 93-97 % with 5 to
    200 of them, where, with 5 to 50, n - 1 degrees of freedom cover 90-94 %, BCa (Efron 1987)
    80-94 % and the bootstrap-t 91-95 % with wider intervals.

    Args:
        values: (n,) number of each example.
        weights: (n,) what each counts, such as its tokens.
        document: (n,) index of the document each is from, from 0; numbers may be left out.

    Example:
        >>> found = estimate(np.array([1.0, 2, 3, 4, 5]), np.ones(5), np.arange(5))
        >>> found.value, round(found.low, 2), round(found.high, 2)
        (3.0, 1.04, 4.96)
    """
    totals, sums = _per_document(weights, document), _per_document(weights * values, document)
    totals, sums = totals[totals > 0], sums[totals > 0]
    count, value = len(totals), float(sums.sum() / totals.sum())
    if not math.isfinite(value) or count < FEWEST_DOCUMENTS:
        return Estimate(value, None, None, count)
    if np.ptp(values) == 0:
        same = float(values[0])
        return Estimate(same, same, same, count, 0.0, 0.0)
    return around(value, _error(totals, sums), totals)


def around(value: float, error: float, totals: Floats) -> Estimate:
    """Student's interval around a value, and the size that would be detected.

    Args:
        value: The estimate.
        error: Its standard error over documents.
        totals: (n,) weight of each document.
    """
    from scipy.special import stdtrit

    freedom = degrees_of_freedom(totals / totals.sum())
    margin = error * float(stdtrit(freedom, (1 + LEVEL) / 2))
    detectable = margin + error * float(stdtrit(freedom, POWER))
    return Estimate(value, value - margin, value + margin, len(totals), error, detectable)


def _per_document(values: Floats, document: Indices) -> Floats:
    return np.asarray(np.bincount(document, values), dtype=np.float64)


def _error(totals: Floats, sums: Floats) -> float:
    """The jackknife's, from the weight of each document and its weighted sum."""
    without = (sums.sum() - sums) / (totals.sum() - totals)
    shift = without - sums.sum() / totals.sum()
    return math.sqrt((1 - 1 / len(totals)) * (shift @ shift))


def degrees_of_freedom(shares: Floats) -> float:
    """Degrees of freedom of a weighted mean's error (Satterthwaite), for variances 1 / weight.

    Those of Bell and McCaffrey (2002), with their bias-reduced variance: the squared residuals
    times shares^2 / (1 - shares).

    Args:
        shares: (n,) of the documents in the whole weight; they sum to one.

    Example:
        >>> round(degrees_of_freedom(np.full(5, 0.2)), 9)
        4.0
        >>> round(degrees_of_freedom(np.array([0.8, 0.05, 0.05, 0.05, 0.05])), 2)
        1.39
    """
    terms = shares**2 / (1 - shares)
    return float(1 / (shares @ shares + terms.sum() ** 2 - terms @ terms))
