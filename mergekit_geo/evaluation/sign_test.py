"""Whether one model's loss is above another's on more documents than below."""

from __future__ import annotations

import numpy as np

from mergekit_geo.records.losses import SignTest
from mergekit_geo.tasks.losses import Floats, Losses


def sign_test(first: Losses, second: Losses) -> SignTest:
    """Count the documents on which the first model's loss is above the second's, and below.

    Where the two are equally likely, the count is binomial. The test asks how many documents
    change, not by how much: a few that lose a lot can leave it far from significant while the mean
    difference is not, and the other way round. A document counts once, whatever its length.

    Args:
        first: Losses of one model.
        second: Losses of the other, same examples in the same order.

    Example:
        >>> weight, document = np.ones(6), np.arange(6)
        >>> first = Losses(np.array([2.0, 2, 2, 2, 2, 1]), weight, document)
        >>> found = sign_test(first, Losses(np.ones(6), weight, document))
        >>> found.above, found.below, found.ties, found.p_value
        (5, 0, 1, 0.0625)
    """
    from scipy.special import bdtr

    assert np.array_equal(first.document, second.document), "not the same examples"
    difference = _document_losses(first) - _document_losses(second)
    above, below = int((difference > 0).sum()), int((difference < 0).sum())
    told = above + below
    p_value = min(1.0, 2 * float(bdtr(min(above, below), told, 0.5))) if told else 1.0
    return SignTest(above=above, below=below, ties=len(difference) - told, p_value=p_value)


def _document_losses(losses: Losses) -> Floats:
    """(n,) mean loss of each document that has weight."""
    counted = losses.take(np.flatnonzero(losses.weight > 0))
    return counted.by_document().loss
