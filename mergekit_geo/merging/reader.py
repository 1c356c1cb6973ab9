"""The anchors' tensors, a chunk at a time, in buffers that do not grow with the model.

Tensors that are gone through more than once are read once, if there is room to hold them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mergekit_geo.checkpoints.header import ITEM_BYTES, TensorInfo
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.kernels import Chunk

CHUNK = 1 << 18
"""Elements of a chunk. Shorter ones spend their time on the interpreter's lock; longer ones
leave the cache."""

ALIGNED = 64
"""Bytes of a line of the cache, at which each anchor's data begins."""


class Reader:
    """Reads one tensor after another, of all anchors.

    Args:
        blend: Whose anchors are read.
        room: Bytes of a tensor, of all anchors together, that are held between two passes.
    """

    def __init__(self, blend: Blend, room: int = 0) -> None:
        self.blend, self.room = blend, room
        self._rows = [np.empty(0, np.uint8) for _ in blend.anchors]
        self._held = np.empty(0, np.uint8)
        self._whole: str | None = None

    def read(self, name: str, step: int = CHUNK) -> Iterator[tuple[int, list[Chunk]]]:
        """Place of the first element and k chunks, until the tensor is through.

        Buffers are used again for the next chunk, or for the next tensor.
        """
        infos, found = self.blend.infos(name), self.blend.anchors_of(name)
        rows = self._hold(name, infos)
        known = self._whole == name
        self._whole = name if known else None
        for start, stop in chunks(infos[0].count, step):
            anchors = []
            for j, (anchor, info) in enumerate(zip(found, infos, strict=True)):
                size = ITEM_BYTES[info.dtype]
                if rows:
                    data = rows[j][start * size : stop * size]
                else:
                    data = self._row(j, (stop - start) * size)
                if not known:
                    anchor.read(name, start, stop, data)
                anchors.append(Chunk(data, info.dtype))
            yield start, anchors
        self._whole = name if rows else None

    def _row(self, anchor: int, nbytes: int) -> Bytes:
        """Room for a chunk of one anchor."""
        self._rows[anchor] = at_least(self._rows[anchor], nbytes)
        return self._rows[anchor][:nbytes]

    def _hold(self, name: str, infos: list[TensorInfo]) -> list[Bytes]:
        """Room for the whole of it; none where it is read once, or too large."""
        sizes = [-(-info.nbytes // ALIGNED) * ALIGNED for info in infos]
        if self.blend.passes(name) < 2 or sum(sizes) > self.room:  # noqa: PLR2004
            return []
        self._held = at_least(self._held, sum(sizes))
        ends = np.cumsum(sizes)
        return [self._held[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def at_least(buffer: Bytes, nbytes: int) -> Bytes:
    """The buffer, or a larger one, without what is in it."""
    return buffer if len(buffer) >= nbytes else np.empty(nbytes, np.uint8)


def chunks(count: int, step: int = CHUNK) -> Iterator[tuple[int, int]]:
    """Start and stop of every chunk of a tensor.

    >>> list(chunks(5, 2))
    [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, count, step):
        yield start, min(start + step, count)
