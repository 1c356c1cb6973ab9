"""Reading a tensor whole, and rounding what was made of it, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mergekit_geo.checkpoints.header import ITEM_BYTES, TensorInfo
from mergekit_geo.merging.kernels import Chunk
from mergekit_geo.merging.reader import chunks
from mergekit_geo.merging.torch_kernel import store

HALF = {"F16", "BF16"}


class Gathered:
    """The anchors' tensors, filled chunk by chunk.

    Args:
        infos: Of each anchor.
    """

    def __init__(self, infos: Sequence[TensorInfo]) -> None:
        exact = np.float32 if {info.dtype for info in infos} <= HALF else np.float64
        self._shape = infos[0].shape
        self._rows = [np.empty(info.count, exact) for info in infos]

    def filled(self, parts: Iterable[tuple[int, list[Chunk]]]) -> Iterator[list[Chunk]]:
        """Keep the elements of every chunk, and pass it on."""
        for start, anchors in parts:
            for row, anchor in zip(self._rows, anchors, strict=True):
                row[start : start + anchor.count] = anchor.values
            yield anchors

    def tensors(self, device: str, *, turned: bool) -> list[Tensor]:
        """The tensors on a device, transposed if `turned`; they are held no longer here."""
        found = []
        while self._rows:
            tensor = torch.from_numpy(self._rows.pop(0)).view(self._shape).to(device)
            found.append(tensor.T.contiguous() if turned else tensor)
        return found


def rounded(values: Tensor, dtype: str) -> Iterator[tuple[int, Chunk]]:
    """Place in bytes and elements of every chunk, rounded once.

    Args:
        values: In float32 or float64, on any device.
        dtype: As safetensors names it.
    """
    flat = values.reshape(-1)
    for start, stop in chunks(len(flat)):
        out = Chunk(np.empty((stop - start) * ITEM_BYTES[dtype], np.uint8), dtype)
        store(flat[start:stop].double(), out)
        yield start * ITEM_BYTES[dtype], out


def largest(values: Tensor) -> float:
    """The largest magnitude: NaN where an element is none."""
    return float(values.abs().max())
