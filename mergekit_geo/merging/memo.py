"""What merges find of their anchors' tensors, kept for further merges of the same anchors.

Inner products, masks and sizes do not depend on weights: of merges that differ in these alone, as
trials of a search do, only the first goes through the anchors for them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.merging.blend import Blend

ELEMENTS_A_BYTE = 2
"""Elements of all anchors for which a byte is kept at most: as much as four masks of each."""

LEAST = 1 << 26
"""Bytes that are kept even of small models: of these the order of all elements, too."""

SHARE = 0.05
"""Most of the free memory that is kept."""

SMALL = 256
"""Bytes that anything takes which is no array."""

Key = tuple[Hashable, ...]


class Memo:
    """Findings about the tensors of some anchors, in bounded memory.

    What neither this merge nor the last one asked for makes room for what is new; where that is not
    enough, what is new is not kept, and will be found again.

    Args:
        anchors: Checkpoints whose bytes do not change; of blends with others nothing is kept.
        most: Bytes that are kept; by default half a byte an element of all anchors, 64 MB at least,
            and at most `SHARE` of the free memory.

    Attributes:
        used: Bytes that are kept now.

    Example:
        >>> memo = Memo(most=600)
        >>> memo.keep(("gram", "w"), 1.5)
        >>> memo.get(("gram", "w")), memo.get(("gram", "v")), memo.used
        (1.5, None, 256)
    """

    def __init__(self, anchors: Sequence[Checkpoint] = (), most: int | None = None) -> None:
        self.places = {anchor: place for place, anchor in enumerate(anchors)}
        self.most, self.used = _most(anchors) if most is None else most, 0
        self._found: OrderedDict[Key, tuple[int, int, Any]] = OrderedDict()
        self._merge, self._lock = 0, threading.Lock()

    def begin(self) -> None:
        """Another merge begins."""
        self._merge += 1

    def of(self, blend: Blend, name: str) -> TensorMemo | None:
        """What is kept of a tensor; None where it is made of other anchors."""
        places = tuple(self.places.get(anchor) for anchor in blend.anchors_of(name))
        return None if None in places else TensorMemo(self, (name, places))

    def get(self, key: Key) -> Any:
        """What was kept; None where nothing is."""
        with self._lock:
            if key not in self._found:
                return None
            _, nbytes, value = self._found.pop(key)
            self._found[key] = self._merge, nbytes, value
            return value

    def keep(self, key: Key, value: object, nbytes: int = 0) -> None:
        """Keep something, if there is room.

        Args:
            key: What it is asked for by.
            value: Not None; nobody changes it.
            nbytes: Of its arrays.
        """
        with self._lock:
            needed = nbytes + SMALL
            if key not in self._found and self._has_room(needed):
                self._found[key] = self._merge, needed, value
                self.used += needed

    def has_room(self, nbytes: int) -> bool:
        """Whether so much more could be kept now."""
        with self._lock:
            return self._has_room(nbytes + SMALL)

    def _has_room(self, needed: int) -> bool:
        """Drop what is old until there is room."""
        while self._found and self.used + needed > self.most:
            merge, nbytes, _ = next(iter(self._found.values()))
            if merge >= self._merge - 1:
                return False
            self._found.popitem(last=False)
            self.used -= nbytes
        return self.used + needed <= self.most


@dataclass(frozen=True)
class TensorMemo:
    """What is kept of one tensor, made of the same anchors in the same order.

    Attributes:
        memo: Where.
        key: Name of the tensor and places of the anchors.
    """

    memo: Memo
    key: Key

    def get(self, *what: Hashable) -> Any:
        """What was kept; None where nothing is."""
        return self.memo.get((*self.key, *what))

    def keep(self, value: object, *what: Hashable, nbytes: int = 0) -> None:
        """Keep something, if there is room."""
        self.memo.keep((*self.key, *what), value, nbytes)

    def has_room(self, nbytes: int) -> bool:
        """Whether so much more could be kept now."""
        return self.memo.has_room(nbytes)


def _most(anchors: Sequence[Checkpoint]) -> int:
    elements = sum(info.count for anchor in anchors for info in anchor.tensors.values())
    free: int = psutil.virtual_memory().available
    return min(max(elements // ELEMENTS_A_BYTE, LEAST), int(SHARE * free))
