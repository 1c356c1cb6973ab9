"""Random directions, normalised filter by filter, as anchors that are read like a checkpoint.

d_j <- d_j ||w_j|| / ||d_j|| for every filter j (Li 2018, section 4). Elements are drawn when they
are read, by a counter that starts from the seed and the tensor's name, so they do not depend on the
order of reading, on threads or on processes, and nothing but one number a filter is kept.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.dtypes import TORCH_DTYPES
from mergekit_geo.checkpoints.header import ITEM_BYTES, TensorInfo
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.landscapes.filters import Filters
from mergekit_geo.tasks.losses import Floats, Indices

BLOCK = 1 << 16
"""Elements that are drawn together."""


class Noise:
    """Random numbers, scaled to the filters of a model.

    Args:
        model: Whose filters give the norms.
        filters: Of its tensors; what has none stays where it is.
        seed: The same seed draws the same numbers for every model.
        twins: Stored name to that of the tensor it is tied to, which is drawn in its place.
        normalized: Whether filters get the norms of the model's; they stay as drawn if not.
    """

    def __init__(
        self,
        model: Checkpoint,
        filters: Mapping[str, Filters],
        seed: int,
        twins: Mapping[str, str],
        *,
        normalized: bool = True,
    ) -> None:
        self.normalized = normalized
        self.model, self.filters, self.seed, self.twins = model, filters, seed, twins
        self.tensors: Mapping[str, TensorInfo] = {
            key: TensorInfo("F64" if info.dtype == "F64" else "F32", info.shape)
            for key, info in model.tensors.items()
            if info.is_float
        }
        self._scales: dict[str, Floats] = {}

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        """Put elements `start` to `stop` of the flattened tensor into `out`."""
        dtype = np.float64 if self.tensors[name].dtype == "F64" else np.float32
        values = out[: (stop - start) * np.dtype(dtype).itemsize].view(dtype)
        if name not in self.filters:
            values[:] = 0
            return
        if name not in self._scales:
            self._scales[name] = self._scale(name)
        for first, last in _blocks(start, stop):
            scale = self._scales[name][self.filters[name].numbers(first, last)]
            values[first - start : last - start] = self._draw(name, first, last) * scale

    def fingerprint(self) -> object:
        """The model's, with the seed."""
        return [self.model.fingerprint(), self.seed, *["as drawn"] * (not self.normalized)]

    def _scale(self, name: str) -> Floats:
        """||w_j|| / ||d_j|| of each filter; 0 where there is nothing to scale to.

        Ones where filters stay as they are drawn.
        """
        filters, size = self.filters[name], self.tensors[name].count
        if not self.normalized:
            return np.ones(filters.total)
        weights, drawn = np.zeros(filters.total), np.zeros(filters.total)
        for first, last in _blocks(0, size):
            numbers = filters.numbers(first, last)
            _add_squares(weights, numbers, values_of(self.model, name, first, last))
            _add_squares(drawn, numbers, self._draw(name, first, last))
        return np.asarray(np.sqrt(weights / np.where(drawn > 0, drawn, np.inf)))

    def _draw(self, name: str, start: int, stop: int) -> Floats:
        """Standard normal numbers of elements within one block."""
        key = hashlib.sha256(f"{self.seed} {self.twins.get(name, name)}".encode()).digest()[:16]
        block = start // BLOCK
        bits = np.random.Philox(key=int.from_bytes(key, "big"), counter=[0, 0, block, 0])
        drawn = np.random.Generator(bits).standard_normal(stop - block * BLOCK, np.float32)
        return drawn[start - block * BLOCK :].astype(np.float64)


def direction(
    model: Checkpoint,
    filters: Mapping[str, Filters],
    seed: int,
    name: str,
    twins: Mapping[str, str] | None = None,
    *,
    normalized: bool = True,
) -> Checkpoint:
    """A random direction at a model.

    Args:
        model: Whose filters give the norms.
        filters: Of its tensors; what has none stays where it is.
        seed: The same seed draws the same numbers for every model.
        name: What a report calls it.
        twins: Stored name to that of the tensor it is tied to, which is drawn in its place.
        normalized: Whether filters get the norms of the model's.
    """
    noise = Noise(model, filters, seed, twins or {}, normalized=normalized)
    return Checkpoint(name, noise.tensors, noise.read, noise.fingerprint)


def _blocks(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Parts of a chunk that lie within one block each."""
    edges = range((start // BLOCK + 1) * BLOCK, stop, BLOCK)
    yield from zip([start, *edges], [*edges, stop], strict=True)


def values_of(model: Checkpoint, name: str, start: int, stop: int) -> Floats:
    """Elements `start` to `stop` of a stored tensor, flattened, in float64."""
    info = model.tensors[name]
    data = np.empty((stop - start) * ITEM_BYTES[info.dtype], np.uint8)
    model.read(name, start, stop, data)
    return np.asarray(torch.from_numpy(data).view(TORCH_DTYPES[info.dtype]).double().numpy())


def length_of(model: Checkpoint, filters: Mapping[str, Filters]) -> float:
    """Euclidean norm of all weights that have filters: how long a normalised direction is."""
    squares = (
        float((values_of(model, name, first, last) ** 2).sum())
        for name in filters
        for first, last in _blocks(0, model.tensors[name].count)
    )
    return math.sqrt(sum(squares))


def _add_squares(total: Floats, numbers: Indices, values: Floats) -> None:
    """Add the square of each value to its filter's sum."""
    least = int(numbers.min())
    sums = np.bincount(numbers - least, values**2)
    total[least : least + len(sums)] += sums
