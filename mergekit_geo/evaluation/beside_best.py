"""An output beside the best parent of each of several sets, and over all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mergekit_geo.evaluation.across import mean_of
from mergekit_geo.evaluation.statistics import DocumentMean
from mergekit_geo.records.losses import DataEntry
from mergekit_geo.records.sets import AcrossSets

ALIKE = ("token", "byte")
"""Units that count the same whatever the task."""


@dataclass(frozen=True, eq=False)
class BesideBest:
    """An output beside the best parent of one set.

    Attributes:
        name: Of the set.
        weight: What the set counts.
        data: What it is.
        loss: Of the parent.
        difference: The output's loss minus that, paired.
    """

    name: str
    weight: float
    data: DataEntry
    loss: float
    difference: DocumentMean

    @property
    def share(self) -> DocumentMean:
        """The difference as a share of the parent's loss."""
        loss, error = self.loss or math.nan, self.difference.error
        error = error if error is None else error / abs(loss)
        return replace(self.difference, value=self.difference.value / loss, error=error)


def across_sets(found: Sequence[BesideBest]) -> AcrossSets:
    """Mean and worst of the differences to the best parent of each set.

    Args:
        found: One a set.
    """
    relative = are_unlike([one.data for one in found])
    differences = [one.share if relative else one.difference for one in found]
    worst = max(range(len(found)), key=lambda i: _ordered(differences[i].value))
    return AcrossSets(
        mean=mean_of(differences, [one.weight for one in found]),
        worst=differences[worst].estimate,
        worst_set=found[worst].name,
        relative=relative,
    )


def are_unlike(sets: Sequence[DataEntry]) -> bool:
    """Whether the losses of some sets count in other units than those of others."""
    return len({counted_in(one.unit, one.task) for one in sets}) > 1


def counted_in(unit: str, task: str) -> str:
    """What a loss counts in, for comparison: its unit, or its task where that has one of its own.

    Args:
        unit: Such as `token`.
        task: Its name; empty for a function of the caller's.

    Example:
        >>> counted_in("token", "causal-lm"), counted_in("example", "image-classification")
        ('token', 'image-classification')
    """
    return unit if task and unit in ALIKE else task


def _ordered(value: float) -> float:
    return math.inf if math.isnan(value) else value
