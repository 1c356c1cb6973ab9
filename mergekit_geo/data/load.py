"""The rows that a source names: built-in text, a file, a saved dataset, or one on the Hub."""

from __future__ import annotations

import re
from pathlib import Path

from mergekit_geo.config.data import BUILTIN, TRAIN, EvalData
from mergekit_geo.data.files import READERS, read_file
from mergekit_geo.data.rows import Row, Rows
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.extras import require
from mergekit_geo.files.local_path import local_path

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def load_rows(data: EvalData) -> Rows:
    """The rows that `data` names; of the built-in text a row a topic, held out unless split=train.

    Raises:
        DataError: Missing, empty, or unreadable.
    """
    rows = _read(data)
    if len(rows.cells) == 0:
        raise DataError("no documents in it", where=data.origin)
    return rows


def is_on_hub(data: EvalData) -> bool:
    """Whether data is named that would have to be downloaded.

    Example:
        >>> is_on_hub(EvalData("org/texts")), is_on_hub(EvalData("runs/texts.jsonl"))
        (True, False)
    """
    path = _path(data)
    named = HUB_NAME.fullmatch(data.origin) and path.suffix.lower() not in READERS
    return bool(named) and not path.exists()


def _read(data: EvalData) -> Rows:
    path = _path(data)
    if data.origin == BUILTIN:
        documents = builtin_documents("train" if data.split == TRAIN else "held-out")
        cells = [Row({"text": d.text}, d.name, BUILTIN) for d in documents]
        return _without_splits(cells, data)
    if path.is_file():
        return _without_splits(read_file(path), data)
    if path.exists() and not path.is_dir():
        raise DataError("neither a file nor a folder", where=data.origin)
    if not path.is_dir() and not is_on_hub(data):
        raise DataError(
            "no such file",
            where=data.origin,
            remedy=f"give a {', '.join(READERS)} file, a folder saved by datasets, a dataset on "
            f"the Hub as org/name, or {BUILTIN}",
        )
    return _dataset(path, data)


def _dataset(path: Path, data: EvalData) -> Rows:
    """Rows of a folder that the datasets library saved, or else of a dataset on the Hub."""
    require("datasets", "reading a dataset", where=data.origin, kind=DataError)
    from mergekit_geo.data.datasets import hub_rows, saved_rows

    return saved_rows(path, data) if path.is_dir() else hub_rows(data)


def _path(data: EvalData) -> Path:
    try:
        return local_path(data.origin)
    except ArgumentError as error:
        raise DataError(error.message, where=error.where) from error


def _without_splits(cells: list[Row], data: EvalData) -> Rows:
    rows = Rows(cells, [row.name for row in cells], data.origin)
    if data.split not in {None, TRAIN} or data.config is not None:
        rows.notes.append("a split or configuration is for datasets, and not used here")
    return rows
