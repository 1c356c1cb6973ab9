"""Making the output a chunk at a time, and counting what leaves the range of its dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mergekit_geo.checkpoints.header import ITEM_BYTES
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.errors import NonFiniteError
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.kernels import Chunk
from mergekit_geo.merging.overflow import LARGEST, lost, needs_width, widened
from mergekit_geo.merging.reader import at_least, chunks

if TYPE_CHECKING:
    from torch import Tensor

Make = Callable[[Sequence[Chunk], Chunk], object]
"""Overwrites a chunk of the output by what the anchors' chunks give."""


class Sink(Protocol):
    """Where merged elements go."""

    def write(self, name: str, position: int, data: Bytes) -> None:
        """Store `data` from byte `position` of the tensor on."""


class ChunkWriter:
    """Hands on the chunks of one tensor after another, in a buffer of its own.

    Args:
        blend: What is merged.
        sink: Where it goes.
        advance: Called with the number of elements done, after each chunk.

    Attributes:
        lost: Elements of the tensor that are finite in every anchor and not in the output.
    """

    def __init__(self, blend: Blend, sink: Sink, advance: Callable[[int], None]) -> None:
        self.blend, self.sink, self.advance = blend, sink, advance
        self._buffer = np.empty(0, np.uint8)
        self.lost, self._largest = 0, 0.0

    def begin(self) -> None:
        """Another tensor begins."""
        self.lost, self._largest = 0, 0.0

    def put(self, name: str, start: int, anchors: Sequence[Chunk], make: Make, most: float) -> None:
        """Make a chunk and hand it on.

        Args:
            name: Of the tensor.
            start: Place of the first element.
            anchors: Their elements.
            make: Makes the output's from these.
            most: What none of these exceeds.
        """
        out = self.room(name, anchors[0].count)
        make(anchors, out)
        self.put_made(name, start, anchors, out, make, most)

    def put_made(
        self, name: str, start: int, anchors: Sequence[Chunk], out: Chunk, make: Make, most: float
    ) -> None:
        """Hand on a chunk that is made already; `make` would make it again."""
        if not most <= LARGEST[out.dtype]:
            self._look(anchors, make, out)
        self.sink.write(name, start * ITEM_BYTES[out.dtype], out.data)
        self.advance(out.count)

    def put_whole(self, name: str, values: Tensor) -> None:
        """Round a tensor that was merged at once, and hand it on."""
        from mergekit_geo.merging import whole_tensor  # loads torch

        dtype, most = self.blend.output_info(name).dtype, whole_tensor.largest(values)
        for start, out in whole_tensor.rounded(values, dtype):
            if not most <= LARGEST[dtype]:
                self.lost, self._largest = self.lost + out.nonfinite, most
            self.sink.write(name, start, out.data)
            self.advance(out.count)

    def copy(self, name: str) -> None:
        """Hand on the donor's own tensor."""
        info, donor = self.blend.first(name), self.blend.anchors_of(name)[0]
        size = ITEM_BYTES[info.dtype]
        for start, stop in chunks(info.count):
            data = self._room((stop - start) * size)
            donor.read(name, start, stop, data)
            self.sink.write(name, start * size, data)
            self.advance(stop - start)

    def room(self, name: str, count: int) -> Chunk:
        """Room for a chunk of the output; the one before is overwritten."""
        dtype = self.blend.output_info(name).dtype
        return Chunk(self._room(count * ITEM_BYTES[dtype]), dtype)

    def _room(self, nbytes: int) -> Bytes:
        self._buffer = at_least(self._buffer, nbytes)
        return self._buffer[:nbytes]

    def refuse_lost(self, name: str) -> None:
        """Refuse a tensor with elements that are finite in every anchor and not in the output.

        Raises:
            NonFiniteError: There are some.
        """
        if not self.lost:
            return
        dtype, largest = self.blend.output_info(name).dtype, self._largest
        found = "1 element is" if self.lost == 1 else f"{self.lost} elements are"
        why = f"values up to {largest:.3g} do not fit {dtype} ({LARGEST[dtype]:.3g})"
        raise NonFiniteError(
            f"{found} finite in every model and not in the output: "
            f"{why if largest < inf else 'their sum overflows float64'}",
            where=f"tensor {name}",
            remedy="choose smaller weights or a wider --dtype, or --allow-nonfinite to go on",
        )

    def _look(self, anchors: Sequence[Chunk], make: Make, out: Chunk) -> None:
        """Count what is finite in every anchor and not in `out`, made in float64 if need be."""
        if needs_width(anchors, out):
            anchors = [widened(anchors[0]), *anchors[1:]]
            make(anchors, out)
        if count := int(np.count_nonzero(gone := lost(anchors, out))):
            wide = Chunk(np.empty(out.count * 8, np.uint8), "F64")
            make(anchors, wide)
            sizes = np.nan_to_num(np.abs(wide.data.view(np.float64)[gone]), nan=inf, posinf=inf)
            self.lost, self._largest = self.lost + count, max(self._largest, float(sizes.max()))
