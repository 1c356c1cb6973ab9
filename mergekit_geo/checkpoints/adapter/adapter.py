"""A base plus a low-rank adapter as one checkpoint: W + scale * B A, computed where it is read.

Neither on disk nor in memory is there ever a merged model: a read takes the base's elements, adds
the rows of the product that belong to them, and forgets both. Halves are handed out in float32, so
that a merge rounds once, at its end; outputs have the base's dtypes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mergekit_geo.checkpoints.adapter.compatibility import Changes, match
from mergekit_geo.checkpoints.adapter.files import Adapter
from mergekit_geo.checkpoints.adapter.low_rank import EXACT, LENGTH, Array, LowRank, scratch, widen
from mergekit_geo.checkpoints.adapter.names import AdapterBase, Change
from mergekit_geo.checkpoints.adapter.side_files import AdapterSideFiles
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.configuration import vocabulary_size
from mergekit_geo.checkpoints.header import ITEM_BYTES, TensorInfo
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.errors import IncompatibleError
from mergekit_geo.files.hub_id import HubId

HANDED_OUT = {"F16": "F32", "BF16": "F32", "F32": "F32", "F64": "F64"}
"""Dtype of a sum, by what the base is stored in."""


class Adapted:
    """A base with an adapter, read as if they were merged.

    Args:
        base: The base model.
        adapter: What is added.
        changes: What the adapter does to the base.
        side_files: The files beside the weights of both; None for a base in memory.
    """

    def __init__(
        self,
        base: Checkpoint,
        adapter: Adapter,
        changes: Changes,
        side_files: AdapterSideFiles | None,
    ) -> None:
        assert base.adapted is None, "one adapter at a time"
        self.base, self.adapter, self.changes, self.side_files = base, adapter, changes, side_files
        self.tensors: Mapping[str, TensorInfo] = {
            stored: self._info(stored, info) for stored, info in base.tensors.items()
        }
        self._here = threading.local()

    @property
    def problems(self) -> list[str]:
        """Why base and adapter do not fit together; empty if they do."""
        return self.changes.problems

    @property
    def warnings(self) -> list[str]:
        """Warnings, such as an adapter that names another base."""
        stated, place = self.adapter.settings.base, HubId.parse(self.base.name)
        found = place.repo if place else self.base.name
        if not stated or Path(stated).name == Path(found).name:
            return []
        return [f"{self.adapter.name} says that it was trained on {stated}, and is used on {found}"]

    def over(self, base: Checkpoint, adapter: Adapter | None = None) -> Adapted:
        """Replace the base of the sum, and its adapter if one is given."""
        return Adapted(base, adapter or self.adapter, self.changes, self.side_files)

    def fingerprint(self) -> object:
        """The fingerprints of base and adapter."""
        return [self.base.fingerprint(), self.adapter.fingerprint()]

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        """Put elements `start` to `stop` of the flattened sum into `out`, as `tensors` says."""
        change = self.changes.by_tensor.get(name)
        if change is None:
            self.base.read(name, start, stop, out)
        elif not change.is_sum:
            self.adapter.read(change.replaced, start, stop, out)
        else:
            self._sum(name, start, stop, out)

    def _info(self, stored: str, info: TensorInfo) -> TensorInfo:
        change = self.changes.by_tensor.get(stored)
        if change is None or self.problems:
            return info
        if change.is_sum:
            return TensorInfo(HANDED_OUT[info.dtype], info.shape, info.dtype)
        return TensorInfo(self.adapter.tensors[change.replaced].dtype, info.shape, info.dtype)

    def _sum(self, name: str, start: int, stop: int, out: Bytes) -> None:
        product, factors = self._product(name)
        handed = np.float64 if self.tensors[name].dtype == "F64" else np.float32
        result = out[: (stop - start) * np.dtype(handed).itemsize].view(handed)
        for begin in range(start, stop, LENGTH):
            part = result[begin - start : begin - start + LENGTH]
            values = scratch("values", len(part), product.left.dtype.type)
            self._fill(name, begin, values)
            product.add(values, begin)
            if factors is not None:
                product.rescale(values, begin, factors)
            part[:] = values

    def _fill(self, name: str, start: int, values: Array) -> None:
        """Read the base's elements from a position on, or those that replace them."""
        replaced = self.changes.by_tensor[name].replaced
        _read(self.adapter if replaced else self.base, replaced or name, start, values)

    def _product(self, name: str) -> tuple[LowRank, Array | None]:
        """A tensor's product, and the factors of its rows or columns where it has some.

        A thread keeps those of the tensor that it is at, and no others.
        """
        if getattr(self._here, "name", None) != name:
            self._here.product = self._load(name)
            self._here.name = name
        found: tuple[LowRank, Array | None] = self._here.product
        return found

    def _load(self, name: str) -> tuple[LowRank, Array | None]:
        change, exact = self.changes.by_tensor[name], EXACT[self.base.tensors[name].dtype]
        left, right = self._matrices(change, exact)
        magnitude = self._tensor(change.magnitude, exact).reshape(-1) if change.magnitude else None
        found = LowRank(left * exact(change.scale), right, magnitude, change.transposed)
        if magnitude is None:
            return found, None
        return found, found.factors(lambda start, values: self._fill(name, start, values))

    def _matrices(self, change: Change, exact: type[np.floating[Any]]) -> tuple[Array, Array]:
        if change.added:
            return self._tensor(change.added, exact)[:, None], np.ones((1, 1), exact)
        a, b = self._tensor(change.a, exact), self._tensor(change.b, exact)
        right, left = a.reshape(len(a), -1), b.reshape(-1, len(a))
        if not change.transposed:
            return left, right
        return np.ascontiguousarray(right.T), np.ascontiguousarray(left.T)

    def _tensor(self, key: str, exact: type[np.floating[Any]]) -> Array:
        info = self.adapter.tensors[key]
        values = np.empty(info.count, exact)
        _read(self.adapter, key, 0, values)
        return values.reshape(info.shape)


def adapted(name: str, base: AdapterBase, adapter: Adapter) -> Checkpoint:
    """A base with an adapter as one checkpoint.

    Args:
        name: What the user calls it.
        base: The base model.
        adapter: What is added.

    Raises:
        UnsupportedError: The adapter does what is not understood here.
        FormatError: Its files contradict themselves.
    """
    changes = match(base, adapter)
    beside = _side_files(base.checkpoint, adapter, changes)
    return of_sum(name, Adapted(base.checkpoint, adapter, changes, beside))


def of_sum(name: str, found: Adapted) -> Checkpoint:
    """The checkpoint of a base with an adapter."""
    base, adapter, beside = found.base, found.adapter, found.side_files
    return Checkpoint(
        name=name,
        tensors=found.tensors,
        read=found.read,
        fingerprint=found.fingerprint,
        config=base.config,
        folder=base.folder if beside is None else beside.folder,
        revision=adapter.revision,
        ties=base.ties,
        stamps=(*base.stamps, *adapter.stamps),
        is_local=base.is_local and adapter.is_local,
        fetched=lambda _: _fetched(name, found),
        adapted=found,
    )


def _fetched(name: str, found: Adapted) -> Checkpoint:
    """Download what is missing of base and adapter, which fit together."""
    if found.problems:
        raise IncompatibleError(found.problems, remedy="name the base it was trained on")
    return of_sum(name, found.over(found.base.fetch(), found.adapter.fetch()))


def _side_files(base: Checkpoint, adapter: Adapter, changes: Changes) -> AdapterSideFiles | None:
    """Side files of base and adapter; None for a base in memory, which has no files."""
    if base.folder is None:
        return None
    whole = [c for c in changes.by_tensor.values() if c.replaced and c.is_embedding]
    return AdapterSideFiles(
        base.folder,
        adapter.folder,
        adapter.name,
        vocabulary_size(base.config),
        own_rows=bool(whole),
    )


def _read(source: Adapter | Checkpoint, name: str, start: int, values: Array) -> None:
    """Fill an array with stored elements, from a position on."""
    dtype = source.tensors[name].dtype
    data = scratch("stored", len(values) * ITEM_BYTES[dtype], np.uint8)
    source.read(name, start, start + len(values), data)
    widen(data, dtype, values)
