"""Rows of a table in another order: which row of which model becomes which row of the output.

A map has one integer a row of the output: the model's own row, or a negative code for one that is
made. Rows are gathered as they are read: nothing is ever held but a chunk, and rows that follow one
another are one read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergekit_geo.checkpoints.adapter.low_rank import widen
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.header import ITEM_BYTES
from mergekit_geo.checkpoints.reading import Bytes

Array = NDArray[Any]
Rows = NDArray[np.int64]

MEAN = -1
"""Code of a padding row: the mean of the rows that have a token."""

FIRST_MADE = -2
"""Code of the first made row, which is zeros; the next is one less."""

FLOATS = {"F16": np.float16, "F32": np.float32, "F64": np.float64}

Sources = tuple[tuple[int, int], ...]
"""Model and row of each row that a made row is the mean of; of none, it is zeros."""


@dataclass(frozen=True)
class RowMap:
    """Where the rows of a model come from.

    Attributes:
        rows: One a row of the output.
        made: What the codes from `FIRST_MADE` down are made of.
        tokens: Rows of the output that have a token; those after them are padding.
    """

    rows: Rows
    made: Sequence[Sources]
    tokens: int

    @property
    def digest(self) -> list[str]:
        """What tells it from others, for fingerprints."""
        digest = hashlib.sha256(self.rows.tobytes() + repr(self.made).encode())
        return ["rows by token", digest.hexdigest()]

    def is_identity(self, rows: int) -> bool:
        """Whether all rows of a table stay where they are."""
        return len(self.rows) == rows and bool((self.rows == np.arange(rows)).all())


@dataclass(frozen=True)
class Table:
    """A tensor with one row a token.

    Attributes:
        name: As it is stored.
        rows: How many.
        columns: Elements of each.
    """

    name: str
    rows: int
    columns: int


@dataclass
class Models:
    """The models that rows are taken of, their data local when it is first needed.

    Attributes:
        checkpoints: As they were opened.
        tables: By model, the tables by the name that all know them by.
    """

    checkpoints: Sequence[Checkpoint]
    tables: Sequence[dict[str, Table]]
    _here: dict[int, Checkpoint] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def row(self, model: int, table: str, row: int) -> Array:
        """A row of a table in float64."""
        found, tables = self._at(model), self.tables[model]
        at = tables.get(table) or _like(table, tables)
        return values_of(found, at.name, row * at.columns, at.columns)

    def _at(self, model: int) -> Checkpoint:
        with self._lock:
            if model not in self._here:
                self._here[model] = self.checkpoints[model].fetch()
            return self._here[model]


def _like(name: str, tables: Mapping[str, Table]) -> Table:
    """The table that another model calls otherwise, by its end; for a tied head the embedding.

    Example:
        >>> tables = {n: Table(n, 8, 4) for n in ("model.embed.weight", "lm_head.weight")}
        >>> _like("language_model.lm_head.weight", tables).name
        'lm_head.weight'
    """
    ends = (one for key, one in tables.items() if key.split(".")[-2:] == name.split(".")[-2:])
    return next(ends, None) or next(iter(tables.values()))


def values_of(checkpoint: Checkpoint, name: str, start: int, count: int) -> Array:
    """Elements of a tensor in float64."""
    dtype = checkpoint.tensors[name].dtype
    data = np.empty(count * ITEM_BYTES[dtype], np.uint8)
    checkpoint.read(name, start, start + count, data)
    values = np.empty(count, np.float64)
    widen(data, dtype, values)
    return values


def read_as(dtype: str, checkpoint: Checkpoint, name: str, start: int, out: Bytes) -> None:
    """Read elements that follow one another, widened where they are stored narrower.

    Args:
        dtype: What they are handed out in.
        checkpoint: That has them.
        name: Of their tensor.
        start: The first.
        out: As many as there is room for.
    """
    stored, count = checkpoint.tensors[name].dtype, len(out) // ITEM_BYTES[dtype]
    if stored == dtype:
        checkpoint.read(name, start, start + count, out)
    else:
        data = np.empty(count * ITEM_BYTES[stored], np.uint8)
        checkpoint.read(name, start, start + count, data)
        widen(data, stored, out.view(FLOATS[dtype]))


class RowReader:
    """Reads the tables of one model with their rows in the output's order.

    Args:
        source: The model, its data local.
        models: All models, for rows that this one lacks.
        tables: Its own tables, by stored name, with the name that all know them by.
        row_map: Where its rows come from.
        dtypes: What each table is handed out in.
    """

    def __init__(
        self,
        source: Checkpoint,
        models: Models,
        tables: dict[str, tuple[str, Table]],
        row_map: RowMap,
        dtypes: dict[str, str],
    ) -> None:
        self.source, self.models, self.tables = source, models, tables
        self.map, self.dtypes = row_map, dtypes
        self._means: dict[str, Array] = {}
        self._lock = Lock()

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        """Put elements `start` to `stop` of the flattened tensor into `out`."""
        if name not in self.tables:
            self.source.read(name, start, stop, out)
            return
        _, table = self.tables[name]
        size, columns = ITEM_BYTES[self.dtypes[name]], table.columns
        for first, last in runs(self.map.rows, start // columns, -(-stop // columns)):
            begin, end = max(first * columns, start), min(last * columns, stop)
            place = out[(begin - start) * size : (end - start) * size]
            row = int(self.map.rows[first])
            if row >= 0:
                own = row * columns + begin - first * columns
                read_as(self.dtypes[name], self.source, name, own, place)
            else:
                values = self._made(name, row)
                offset = begin - first * columns
                narrow(values[offset : offset + end - begin], self.dtypes[name], place)

    def _made(self, name: str, code: int) -> Array:
        """A row that the model lacks."""
        if code == MEAN:
            return self._mean(name)
        table, sources = self.tables[name][0], self.map.made[FIRST_MADE - code]
        if not sources:
            return np.zeros(self.tables[name][1].columns)
        found = [self.models.row(model, table, row) for model, row in sources]
        return np.mean(found, axis=0) if len(found) > 1 else found[0]

    def _mean(self, name: str) -> Array:
        """The mean of the rows that have a token; computed once a table."""
        with self._lock:
            if name not in self._means:
                rows = self.map.rows[: self.map.tokens]
                total = np.zeros(self.tables[name][1].columns)
                for values in self._parts(name, len(rows)):
                    total += values.sum(axis=0)
                self._means[name] = total / max(int((rows != MEAN).sum()), 1)
            return self._means[name]

    def _parts(self, name: str, count: int) -> Iterator[Array]:
        """Rows that have a token, a few at a time; those without one are zeros."""
        columns = self.tables[name][1].columns
        for first, last in runs(self.map.rows, 0, count, most=max((1 << 18) // columns, 1)):
            row = int(self.map.rows[first])
            if row >= 0:
                width = (last - first) * columns
                found = values_of(self.source, name, row * columns, width)
                yield found.reshape(-1, columns)
            elif row != MEAN:
                yield self._made(name, row)[None]


def runs(rows: Rows, first: int, last: int, most: int = 1 << 62) -> Iterator[tuple[int, int]]:
    """Start and stop of the rows that are one read: own ones that follow one another.

    Example:
        >>> list(runs(np.array([0, 1, 5, 6, -1, -1]), 0, 6))
        [(0, 2), (2, 4), (4, 5), (5, 6)]
    """
    part = rows[first:last]
    breaks = np.flatnonzero((np.diff(part) != 1) | (part[1:] <= 0)) + 1
    bounds = [0, *breaks.tolist(), len(part)]
    for start, stop in pairwise(bounds):
        for begin in range(start, stop, most):
            yield first + begin, first + min(begin + most, stop)


def narrow(values: Array, dtype: str, out: Bytes) -> None:
    """Write floats as they are stored, rounded to the nearest, ties to even.

    Example:
        >>> out = np.empty(4, np.uint8)
        >>> narrow(np.array([1.0, -2.0]), "BF16", out)
        >>> out.tolist()
        [128, 63, 0, 192]
    """
    if dtype != "BF16":
        out.view(FLOATS[dtype])[:] = values
        return
    wide = values.astype(np.float32)
    bits = wide.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    rounded[np.isnan(wide)] = 0x7FC0
    out.view(np.uint16)[:] = rounded
