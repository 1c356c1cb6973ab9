"""How sure a rank correlation is, and a difference of two from the same examples.

It is no mean over documents, so the jackknife leaves out one block of documents after another.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mergekit_geo.records.losses import Estimate
from mergekit_geo.tasks.losses import Floats, Indices, Ratings

MOST_BLOCKS = 400
"""Blocks that are left out in turn: of one document each, where there are no more documents."""

Around = Callable[[float, float, Floats], Estimate]


def correlation(
    first: Ratings, second: Ratings | None, document: Indices, around: Around, fewest: int
) -> Estimate:
    """Spearman's rank correlation, less another's on the same examples if there is one.

    Args:
        first: Numbers of one model.
        second: Of the other.
        document: (n,) index of the document each example is from.
        around: Makes an interval of value, standard error and the blocks' weights.
        fewest: Blocks below which there is no interval.
    """

    def value(kept: Indices) -> float:
        found = first.take(kept).spearman
        return found if second is None else found - second.take(kept).spearman

    every = np.arange(len(document))
    whole, blocks = value(every), _blocks(document)
    count = int(blocks.max()) + 1
    if count < fewest or not math.isfinite(whole):
        return Estimate(value=whole, low=None, high=None)
    shift = np.array([value(every[blocks != block]) for block in range(count)]) - whole
    shift = shift[np.isfinite(shift)]
    error = math.sqrt((1 - 1 / count) * (shift @ shift))
    found = around(whole, error, np.ones(count))
    return found if second is not None else _bounded(found)


def _blocks(document: Indices) -> Indices:
    """(n,) number of each example's block; documents are dealt out in a fixed random order."""
    _, place = np.unique(document, return_inverse=True)
    count = int(place.max()) + 1
    dealt = np.random.default_rng(0).permutation(count) % min(count, MOST_BLOCKS)
    return np.asarray(dealt[place])


def _bounded(found: Estimate) -> Estimate:
    """An interval of a correlation, which is from -1 to 1."""
    assert found.low is not None
    assert found.high is not None
    return found.model_copy(update={"low": max(found.low, -1.0), "high": min(found.high, 1.0)})
