"""Orders of made-up units, without any evaluator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mergekit_geo.searches.schedule import Schedule, SetOrder
from mergekit_geo.tasks.losses import Floats


def order(
    best: Floats, ends: Sequence[int], weights: Floats | None = None, name: str = "data"
) -> SetOrder:
    """Units of a set, each an example and a document of its own."""
    n = len(best)
    counts = np.ones(n) if weights is None else weights
    return SetOrder(
        name=name, weights=counts, best=best, document=np.arange(n), ends=np.array(ends),
        blocks=tuple(np.split(np.arange(n), ends[:-1])), unit=np.arange(n), counts=counts,
        work=np.diff(ends, prepend=0).astype(float),
    )  # fmt: skip


def schedule(*orders: SetOrder) -> Schedule:
    """Of some sets."""
    return Schedule(orders)
