"""The rows that a source names: built-in text, a file, a saved dataset, or one on the Hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

from mergekit_geo.config.data import BUILTINS, TRAIN, EvalData
from mergekit_geo.config.sets import LM_EVAL
from mergekit_geo.data.files import READERS, read_file
from mergekit_geo.data.rows import Row, Rows
from mergekit_geo.data.text import builtin_documents
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.extras import require
from mergekit_geo.files.local_path import local_path
from mergekit_geo.printable import nearest_of

BUILTIN_PREFIX = "builtin:"
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def load_rows(data: EvalData) -> Rows:
    """The rows that `data` names; of a built-in text those that are held out, unless split=train.

    Raises:
        DataError: Missing, empty, or unreadable.
    """
    if data.benchmarks:
        refuse_training(data)
    rows = _read(data)
    if len(rows.cells) == 0:
        raise DataError("no documents in it", where=data.origin)
    return rows


def refuse_training(data: EvalData) -> NoReturn:
    """Refuse benchmarks as training data.

    Raises:
        DataError: Always.
    """
    raise DataError(
        "tasks of lm-eval are for measuring, and nothing is trained on them",
        where=data.origin,
        remedy="name other data with --train-data",
    )


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
    if data.origin.startswith(LM_EVAL):
        raise DataError("no task is named", where=data.origin, remedy="lm-eval:TASK[,TASK...]")
    path = _path(data)
    if data.origin in BUILTINS:
        return _builtin(data)
    if path.is_file():
        return _without_splits(read_file(path), data)
    if path.exists() and not path.is_dir():
        raise DataError("neither a file nor a folder", where=data.origin)
    if not path.is_dir() and not is_on_hub(data):
        raise _missing(data)
    return _dataset(path, data)


def _builtin(data: EvalData) -> Rows:
    documents = builtin_documents("train" if data.split == TRAIN else "held-out", data.origin)
    cells = [Row({"text": found.text}, found.name, data.origin) for found in documents]
    return _without_splits(cells, data)


def _missing(data: EvalData) -> DataError:
    if data.origin.startswith(BUILTIN_PREFIX):
        return DataError(
            f"no such built-in text; there are {' and '.join(BUILTINS)}",
            where=data.origin,
            remedy=f"{nearest_of(data.origin, BUILTINS)}name one of them, or a file",
        )
    return DataError(
        "no such file",
        where=data.origin,
        remedy=f"give a {', '.join(READERS)} file, a folder saved by datasets, a dataset on the "
        f"Hub as org/name, or {' or '.join(BUILTINS)}",
    )


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
