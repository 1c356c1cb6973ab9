"""Merging a tensor whose elements are weighed by statistics.

The statistics are read beside the anchors, chunk by chunk: one pass over both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mergekit_geo.checkpoints.header import ITEM_BYTES
from mergekit_geo.merging.kernels import Chunk
from mergekit_geo.merging.reader import at_least
from mergekit_geo.merging.weighed import Weighed
from mergekit_geo.merging.weighing import weighing_kernel


class WeighedTensor:
    """One tensor of a merge by elements that are weighed.

    Args:
        name: Of the tensor.
        shape: Its shape.
        rule: With its statistics.

    Attributes:
        done: Elements so far.
    """

    def __init__(self, name: str, shape: tuple[int, ...], rule: Weighed) -> None:
        assert rule.statistics, f"{rule.name} has no statistics yet"
        self.name, self.rule, self.kernel = name, rule, weighing_kernel()
        self._known = [
            one if name in one.tensors and one.tensors[name].shape == shape else None
            for one in rule.statistics
        ]
        self._sums, self.done = np.zeros(len(rule.statistics)), 0
        self._last = self._sums
        self._rooms = [np.empty(0, np.uint8) for _ in rule.statistics]

    @property
    def factors(self) -> tuple[float, ...]:
        """Mean factor of each anchor over the elements so far."""
        means = self._sums / max(self.done, 1)
        return (1.0 - float(means[1:].sum()), *map(float, means[1:]))

    def read(self, start: int, stop: int) -> list[Chunk]:
        """Statistics of some elements of every anchor; zeros where it has none of this tensor."""
        return [self._read(place, start, stop) for place in range(len(self._known))]

    def combine(self, statistics: Sequence[Chunk], anchors: Sequence[Chunk], out: Chunk) -> None:
        """Overwrite `out` with the weighed sum."""
        self._last = self.kernel.weigh(anchors, statistics, self.rule.weighing, out)

    def count(self, elements: int) -> None:
        """Add what the last chunk was weighed by."""
        self._sums = self._sums + self._last
        self.done += elements

    def _read(self, place: int, start: int, stop: int) -> Chunk:
        found = self._known[place]
        dtype = found.tensors[self.name].dtype if found else "F32"
        nbytes = (stop - start) * ITEM_BYTES[dtype]
        if found is None:
            return Chunk(np.zeros(nbytes, np.uint8), dtype)
        self._rooms[place] = at_least(self._rooms[place], nbytes)
        room = self._rooms[place][:nbytes]
        found.read(self.name, start, stop, room)
        return Chunk(room, dtype)
