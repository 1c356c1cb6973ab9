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
from mergekit_geo.checkpoints.adapter.low_rank import EXACT, LENGTH, Array, LowRank, widen
from mergekit_geo.checkpoints.adapter.names import AdapterBase, Change
from mergekit_geo.checkpoints.adapter.side_files import AdapterSideFiles
from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.configuration import vocabulary_size
from mergekit_geo.checkpoints.header import ITEM_BYTES, TensorInfo
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.checkpoints.scratch import scratch
from mergekit_geo.checkpoints.unchanged import Stamp, stamps_of
from mergekit_geo.errors import IncompatibleError

HANDED_OUT = {"F16": "F32", "BF16": "F32", "F32": "F32", "F64": "F64"}
"""Dtype of a sum, by what the base is stored in."""


class AdapterCheckpoint:
    """A base with an adapter, read as if they were merged.

    Args:
        name: What the user calls it.
        base: The base model.
        adapter: What is added.
        changes: What the adapter does to the base, where that is known.
        side_files: The files beside the weights, where they have been put together.

    Raises:
        UnsupportedError: The adapter does what is not understood here.
        FormatError: Its files contradict themselves.
    """

    def __init__(
        self,
        name: str,
        base: AdapterBase,
        adapter: Adapter,
        changes: Changes | None = None,
        side_files: AdapterSideFiles | None = None,
    ) -> None:
        assert not isinstance(base.checkpoint, AdapterCheckpoint), "one adapter at a time"
        self.name, self.base, self.adapter = name, base.checkpoint, adapter
        self.changes = match(base, adapter) if changes is None else changes
        self.tensors: Mapping[str, TensorInfo] = {
            stored: self._info(stored, info) for stored, info in self.base.tensors.items()
        }
        self._here = threading.local()
        self.side_files = side_files or self._side_files()

    @property
    def problems(self) -> list[str]:
        """Why base and adapter do not fit together; empty if they do."""
        return self.changes.problems

    @property
    def warnings(self) -> list[str]:
        """Warnings, such as an adapter that names another base."""
        stated, found = self.adapter.settings.base, self.base.name.partition("@")[0]
        if not stated or Path(stated).name == Path(found).name:
            return []
        return [f"{self.adapter.name} says that it was trained on {stated}, and is used on {found}"]

    @property
    def revision(self) -> str | None:
        """Commit of the adapter, where it comes from the Hub."""
        return self.adapter.revision

    @property
    def config(self) -> Config:
        """Configuration of the base."""
        return self.base.config

    @property
    def folder(self) -> Path | None:
        """Where configuration and tokenizer lie: the base's, or that of both put together."""
        return self.base.folder if self.side_files is None else self.side_files.folder

    @property
    def ties(self) -> Mapping[str, str]:
        """Tied names of the base, and the name whose tensor each shares."""
        return self.base.ties

    @property
    def is_local(self) -> bool:
        """Whether the data of both can be read without a download."""
        return self.base.is_local and self.adapter.is_local

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """Stamps of the files of base and adapter."""
        return (*stamps_of(self.base), *getattr(self.adapter, "stamps", ()))

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        """Put elements `start` to `stop` of the flattened sum into `out`, as `tensors` says."""
        change = self.changes.by_tensor.get(name)
        if change is None:
            self.base.read(name, start, stop, out)
        elif not change.is_sum:
            self.adapter.read(change.replaced, start, stop, out)
        else:
            self._sum(name, start, stop, out)

    def fingerprint(self) -> object:
        """The identities of base and adapter."""
        return [self.base.fingerprint(), self.adapter.fingerprint()]

    def fetch(self) -> AdapterCheckpoint:
        """Download what is missing of base and adapter, and return the checkpoint over them.

        Raises:
            IncompatibleError: They do not fit together.
            HubError: A download failed.
        """
        if self.problems:
            raise IncompatibleError(self.problems, remedy="name the base it was trained on")
        return self.over(self.base.fetch(), self.adapter.fetch())

    def over(self, base: Checkpoint, adapter: Adapter | None = None) -> AdapterCheckpoint:
        """A copy that reads the same tensors from another base, and adapter if given."""
        return AdapterCheckpoint(
            self.name, AdapterBase(base), adapter or self.adapter, self.changes, self.side_files
        )

    def _side_files(self) -> AdapterSideFiles | None:
        """Side files of base and adapter; None for a base in memory, which has no files."""
        if self.base.folder is None:
            return None
        whole = [c for c in self.changes.by_tensor.values() if c.replaced and c.is_embedding]
        return AdapterSideFiles(
            self.base.folder,
            self.adapter.folder,
            self.adapter.name,
            vocabulary_size(self.base.config),
            own_rows=bool(whole),
        )

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


def _read(source: Adapter | Checkpoint, name: str, start: int, values: Array) -> None:
    """Fill an array with stored elements, from a position on."""
    dtype = source.tensors[name].dtype
    data = scratch("stored", len(values) * ITEM_BYTES[dtype], np.uint8)
    source.read(name, start, start + len(values), data)
    widen(data, dtype, values)
