"""Choosing and reporting never share data: documents split once, by a seeded hash of their content.

Whatever is picked by its loss is picked on the selection half; every number reported comes from the
report half.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.statistics import FEWEST_DOCUMENTS
from mergekit_geo.tasks.losses import Indices, Losses


@dataclass(frozen=True)
class Split:
    """Which examples select and which report.

    Attributes:
        selection: Indices of examples.
        report: Indices of the others.
    """

    selection: Indices
    report: Indices

    @classmethod
    def of(cls, losses: Losses, documents: Sequence[str], seed: int) -> Split:
        """Split the examples of an objective by the content of their documents.

        Args:
            losses: Any losses on these examples.
            documents: A key of each document's content; equal ones go to the same half.
            seed: Another seed is another split.

        Raises:
            DataError: A half has too few documents for an interval.
        """
        selects = np.array([in_selection_half(documents[index], seed) for index in losses.document])
        split = cls(np.flatnonzero(selects), np.flatnonzero(~selects))
        found = [len(set(losses.document[rows])) for rows in (split.selection, split.report)]
        if min(found) < FEWEST_DOCUMENTS:
            raise DataError(
                f"the data splits into {found[0]} documents to choose on and {found[1]} to report "
                f"on; expected at least {FEWEST_DOCUMENTS} in each",
                remedy=f"give more documents: {4 * FEWEST_DOCUMENTS} or more nearly always do",
            )
        return split


def in_selection_half(key: str, seed: int) -> bool:
    """Whether a document is in the selection half.

    Example:
        >>> sum(in_selection_half(str(i), 0) for i in range(1000))
        510
    """
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()[0] % 2 == 0
