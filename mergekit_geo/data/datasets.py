"""Rows of the datasets library: a folder that it saved, or a dataset on the Hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset

from mergekit_geo.checkpoints.hub_client import bars_hidden
from mergekit_geo.checkpoints.loading import load_dataset
from mergekit_geo.config.data import TRAIN, EvalData
from mergekit_geo.data.labels import ClassId
from mergekit_geo.data.rows import Row, Rows
from mergekit_geo.errors import DataError

SCRIPT = re.compile("[Dd]ataset scripts|trust_remote_code")
"""Errors by which datasets says that it would have to run code."""

SPLITS = ("validation", "test", "train")
"""Default split where a dataset has several: the first of these that it has."""


def saved_rows(folder: Path, data: EvalData) -> Rows:
    """Rows of a folder that `save_to_disk` wrote.

    Raises:
        DataError: Not such a folder, or no such split in it.
    """
    try:
        found = datasets.load_from_disk(str(folder))
    except FileNotFoundError as error:
        raise DataError(
            "not a folder saved by datasets",
            where=data.origin,
            remedy="give a file, or save the dataset with its save_to_disk",
        ) from error
    except IndexError as error:  # datasets cannot read a table that it saved without rows
        raise DataError("no documents in it", where=data.origin) from error
    except Exception as error:  # pyarrow, and whatever reading damaged notes raises
        raise DataError(f"the dataset cannot be read: {error}", where=data.origin) from error
    return _rows_of(found, data)


def hub_rows(data: EvalData) -> Rows:
    """Rows of a dataset on the Hub, downloaded into the cache that datasets keeps.

    Raises:
        DataError: No network, or no such dataset, configuration or split.
    """
    try:
        with bars_hidden(datasets):
            found = load_dataset(data.origin, data.config)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise DataError(
            f"no such file, and no such dataset on the Hub: {error}",
            where=data.origin,
            remedy="a private or gated dataset needs `hf auth login`",
        ) from error
    except ConnectionError as error:
        raise DataError(
            f"no such file, and the Hub could not be asked for a dataset: {error}",
            where=data.origin,
            remedy="give a file, or a folder saved with save_to_disk",
        ) from error
    except (datasets.exceptions.DatasetsError, ValueError, RuntimeError, OSError) as error:
        if SCRIPT.search(str(error)):
            raise DataError(
                "the dataset is made by a loading script, which is code that is never run here: "
                "--trust-remote-code is for models",
                where=data.origin,
                remedy="save its rows as a .parquet or .jsonl file",
            ) from error
        raise DataError(
            f"the dataset cannot be read: {error}",
            where=data.origin,
            remedy="--data-config names one of its configurations",
        ) from error
    return _rows_of(found, data)


class _Lazy(Sequence[Row]):
    """Rows that are read from the table when they are asked for."""

    def __init__(self, table: Dataset, names: Sequence[str], source: str) -> None:
        self.table, self.names, self.source = table, names, source
        classes = {name: _classes_of(feature) for name, feature in table.features.items()}
        self.classes = {name: found for name, found in classes.items() if found}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        cells = self.table[index]
        named = {name: _named(cells[name], found) for name, found in self.classes.items()}
        return Row({**cells, **named}, self.names[index], self.source)


def _classes_of(feature: Any) -> tuple[str, ...]:
    """Names of the classes that a column, or a list in it, holds the numbers of."""
    return tuple(getattr(getattr(feature, "feature", feature), "names", None) or ())


def _named(cell: Any, names: Sequence[str]) -> Any:
    if isinstance(cell, list):
        return [_named(part, names) for part in cell]
    return ClassId.of(cell, names) if isinstance(cell, int) else cell


def _rows_of(found: Any, data: EvalData) -> Rows:
    notes: list[str] = []
    split, table = _chosen(found, data, notes)
    names = [f"{split}:{number}" for number in range(1, len(table) + 1)]
    return Rows(_Lazy(_undecoded(table), names, data.origin), names, data.origin, notes)


def _chosen(found: Any, data: EvalData, notes: list[str]) -> tuple[str, Dataset]:
    if not isinstance(found, dict):  # one table, of which there are no parts
        whole = str(found.split or "all")
        if data.split not in {None, TRAIN, whole}:
            notes.append(f"a split is for datasets that have some: {whole!r} is taken")
        return whole, found
    splits = dict(found)
    names = ", ".join(splits)
    if data.split is not None and data.split not in splits:
        raise DataError(
            f"no split {data.split!r}; its splits are {names}",
            where=data.origin,
            remedy="name one of them with --split",
        )
    usual = [name for name in (*SPLITS, *splits) if name in splits]
    if data.split is None and len(splits) > 1 and usual[0] not in SPLITS:
        raise DataError(
            f"several splits: {names}", where=data.origin, remedy="name one of them with --split"
        )
    name = data.split or usual[0]
    if data.split is None and len(splits) > 1:
        notes.append(f"split {name!r} is taken, of {names}")
    return name, splits[name]


def _undecoded(table: Dataset) -> Dataset:
    """All columns, as plain values; images as the bytes they are stored in.

    Those are decoded when used, and hashed without that; sound and films never are. A table may be
    saved so that it gives some columns only, or arrays.
    """
    table = table.with_format(None)
    for name, feature in table.features.items():
        if getattr(feature, "decode", False):
            table = table.cast_column(name, type(feature)(decode=False))
    return table
