"""Basins: models that no barrier parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components

from mergekit_geo.errors import ArgumentError
from mergekit_geo.tasks.losses import Floats

Members = tuple[int, ...]


@dataclass(frozen=True)
class Basins:
    """A partition of k models.

    Attributes:
        all: Members of each basin by index, in order; basins in the order of their first members.
        largest: The one with most members; of such, the one with the lowest mean loss, then the
            first.
    """

    all: tuple[Members, ...]
    largest: Members


def basins(barriers_kk: Floats, losses: Sequence[float], threshold: float) -> Basins:
    """Connected components of the graph of pairs whose barrier is below a threshold.

    Two models of one basin may have a barrier between them, where a third leads around it.

    Args:
        barriers_kk: (k, k) symmetric; NaN where unknown, which parts the pair. The diagonal is
            not looked at.
        losses: Of the k models.
        threshold: In the unit of the barriers.

    Raises:
        ArgumentError: The threshold is not a number above zero.

    Example:
        >>> basins(np.array([[0, 9, 0], [9, 0, 9], [0, 9, 0]]), [3.0, 3.0, 3.1], 0.1)
        Basins(all=((0, 2), (1,)), largest=(0, 2))
    """
    assert barriers_kk.shape == (len(losses), len(losses)), "one row and column a model"
    assert np.array_equal(barriers_kk, barriers_kk.T, equal_nan=True), "not symmetric"
    if not (math.isfinite(threshold) and threshold > 0):
        raise ArgumentError(f"a barrier's threshold must be a number above 0, found {threshold:g}")
    _, labels = connected_components(barriers_kk < threshold, directed=False)
    groups: dict[int, list[int]] = {}
    for model, label in enumerate(labels.tolist()):
        groups.setdefault(label, []).append(model)
    found = tuple(tuple(members) for members in groups.values())
    return Basins(found, min(found, key=lambda members: _rank(members, losses)))


def _rank(members: Members, losses: Sequence[float]) -> tuple[int, float, Members]:
    """Sorts the largest basin first; a loss that is NaN comes last."""
    mean = sum(losses[i] for i in members) / len(members)
    return -len(members), math.inf if math.isnan(mean) else mean, members
