"""How sure a mean over documents is, and a difference of two from the same examples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mergekit_geo.evaluation.correlation import correlation
from mergekit_geo.records.losses import Estimate
from mergekit_geo.tasks.losses import Floats, Indices, Losses

FEWEST_DOCUMENTS = 5
LEVEL = 0.95
POWER = 0.8


@dataclass(frozen=True, eq=False)
class DocumentMean:
    """A weighted mean of one number an example, and how much it changes from document to document.

    Attributes:
        value: The mean.
        error: Its standard error; None with too few documents, or where a value is not finite.
        totals: (n,) weight of each document that has some.
    """

    value: float
    error: float | None
    totals: Floats

    @property
    def documents(self) -> int:
        """How many documents it rests on."""
        return len(self.totals)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of its error."""
        return degrees_of_freedom(self.totals / self.totals.sum())

    def times(self, factor: float) -> DocumentMean:
        """The mean of the same numbers, each times a factor."""
        error = None if self.error is None else self.error * abs(factor)
        return DocumentMean(self.value * factor, error, self.totals)

    @property
    def estimate(self) -> Estimate:
        """The mean with its interval."""
        if self.error is None:
            return Estimate(value=self.value, low=None, high=None)
        if self.error == 0:
            return Estimate(value=self.value, low=self.value, high=self.value, detectable=0.0)
        return around(self.value, self.error, self.totals)


def mean_loss(losses: Losses) -> DocumentMean:
    """Mean loss per token."""
    return document_mean(losses.loss, losses.weight, losses.document)


def paired_difference(first: Losses, second: Losses) -> DocumentMean:
    """Mean loss of the first minus that of the second, on the same examples.

    Args:
        first: Losses of one model.
        second: Losses of the other, same examples in the same order.
    """
    assert np.array_equal(first.document, second.document), "not the same examples"
    return document_mean(first.loss - second.loss, first.weight, first.document)


def mean_score(losses: Losses) -> Estimate | None:
    """Share of right answers, or rank correlation, with its interval; None without either."""
    if losses.ratings is not None:
        return correlation(losses.ratings, None, losses.document, around, FEWEST_DOCUMENTS)
    if losses.score is None or losses.accuracy is None:
        return None
    return estimate_share(losses.score, losses.weight_of_score, losses.document)


def mean_margin(losses: Losses) -> Estimate | None:
    """Mean margin of chosen over rejected answers; None where there are none."""
    if losses.margin is None or losses.accuracy is None:
        return None
    return estimate(losses.margin, losses.weight_of_score, losses.document)


def paired_score(first: Losses, second: Losses) -> Estimate | None:
    """Score of the first minus that of the second on the same examples, with its interval."""
    if first.ratings is not None and second.ratings is not None:
        return correlation(first.ratings, second.ratings, first.document, around, FEWEST_DOCUMENTS)
    if first.score is None or second.score is None or first.accuracy is None:
        return None
    weight, change = first.weight_of_score, first.score - second.score
    if np.array_equal(first.loss, second.loss):  # one model, which has one score
        return estimate(change, weight, first.document)
    return estimate_share(change, weight, first.document)


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
    mean = document_mean(values, weights, document)
    if mean.error != 0:
        return mean.estimate
    unseen, detectable = (1 - (1 - p) ** (1 / mean.documents) for p in (LEVEL, POWER))
    low, high = max(mean.value - unseen, -1.0), min(mean.value + unseen, 1.0)
    return Estimate(value=mean.value, low=low, high=high, detectable=detectable)


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
    return document_mean(values, weights, document).estimate


def estimate_ratio(
    part: Floats, whole: Floats, weights: Floats, document: Indices
) -> Estimate | None:
    """The mean of one number as a share of the mean of another, with an interval over documents.

    The interval is the delta method's: that of the mean of (part - share x whole), in units of the
    whole. There is none where the whole is not significantly above zero: a share of what may be
    nothing says nothing.

    Args:
        part: (n,) number of each example.
        whole: (n,) number of each example that it is a share of.
        weights: (n,) what each counts, such as its tokens.
        document: (n,) index of the document each is from.

    Example:
        >>> whole = np.array([1.0, 2, 3, 4, 5])
        >>> found = estimate_ratio(whole / 4, whole, np.ones(5), np.arange(5))
        >>> found.value, found.low, found.high
        (0.25, 0.25, 0.25)
    """
    total = document_mean(whole, weights, document)
    low = total.estimate.low
    if low is None or low <= 0:
        return None
    share = document_mean(part, weights, document).value / total.value
    rest = document_mean((part - share * whole) / total.value, weights, document)
    if rest.error is None:
        return Estimate(value=share, low=None, high=None)
    return around(share, rest.error, rest.totals)


def document_mean(values: Floats, weights: Floats, document: Indices) -> DocumentMean:
    """The weighted mean that `estimate` gives an interval to, with its standard error.

    Args:
        values: (n,) number of each example.
        weights: (n,) what each counts, such as its tokens.
        document: (n,) index of the document each is from, from 0; numbers may be left out.
    """
    totals, sums = _per_document(weights, document), _per_document(weights * values, document)
    totals, sums = totals[totals > 0], sums[totals > 0]
    value = float(sums.sum() / totals.sum())
    if not math.isfinite(value) or len(totals) < FEWEST_DOCUMENTS:
        return DocumentMean(value, None, totals)
    if np.ptp(values) == 0:
        return DocumentMean(float(values[0]), 0.0, totals)
    return DocumentMean(value, _error(totals, sums), totals)


def around(value: float, error: float, totals: Floats) -> Estimate:
    """Student's interval around a value, and the size that would be detected.

    Args:
        value: The estimate.
        error: Its standard error over documents.
        totals: (n,) weight of each document.
    """
    return students(value, error, degrees_of_freedom(totals / totals.sum()))


def students(value: float, error: float, freedom: float) -> Estimate:
    """Student's interval with so many degrees of freedom, and the size that would be detected."""
    from scipy.special import stdtrit

    margin = error * float(stdtrit(freedom, (1 + LEVEL) / 2))
    detectable = margin + error * float(stdtrit(freedom, POWER))
    return Estimate(value=value, low=value - margin, high=value + margin, detectable=detectable)


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
