"""How sure a difference of two losses is, from the same examples under both models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mergekit_geo.objectives.causal_lm import Losses

FEWEST_DOCUMENTS = 5
RESAMPLES = 9999
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number and how far it can be trusted.

    Attributes:
        value: The estimate.
        low: Lower end of its 95 % interval; None with too few documents for one.
        high: Upper end.
        documents: How many documents were resampled.
    """

    value: float
    low: float | None
    high: float | None
    documents: int

    @property
    def is_significant(self) -> bool | None:
        """Whether the interval leaves zero out; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return self.low > 0 or self.high < 0


def mean_loss(losses: Losses, seed: int = 0) -> Estimate:
    """Mean loss per token with its interval."""
    return _bootstrap(losses, losses.loss, seed)


def paired_difference(first: Losses, second: Losses, seed: int = 0) -> Estimate:
    """Mean loss of the first minus that of the second, on the same examples.

    Documents are resampled, not windows: windows of one document are alike.

    Args:
        first: Losses of one model.
        second: Losses of the other, same examples in the same order.
        seed: Of the resampling.
    """
    assert np.array_equal(first.document, second.document), "not the same examples"
    return _bootstrap(first, first.loss - second.loss, seed)


def _bootstrap(losses: Losses, values: NDArray[np.float64], seed: int) -> Estimate:
    """BCa bootstrap (Efron 1987) of the token-weighted mean of `values` over documents."""
    _, index = np.unique(losses.document, return_inverse=True)
    weights = np.bincount(index, losses.weight).astype(np.float64)
    sums = np.bincount(index, losses.weight * values).astype(np.float64)
    count, value = len(weights), float(sums.sum() / weights.sum())
    if count < FEWEST_DOCUMENTS:
        return Estimate(value, None, None, count)
    if np.ptp(sums / weights) == 0:
        return Estimate(value, value, value, count)
    low, high = _interval(sums, weights, seed)
    return Estimate(value, low, high, count)


def _interval(
    sums: NDArray[np.float64], weights: NDArray[np.float64], seed: int
) -> tuple[float, float]:
    from scipy.stats import bootstrap

    found = bootstrap(
        (sums, weights),
        lambda s, w, axis: s.sum(axis=axis) / w.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)
