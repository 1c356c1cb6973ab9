"""Rows of numbers and texts in a file of their own: JSON lines, or Parquet; whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from mergekit_geo.errors import ArgumentError, OutputError, OutputExistsError
from mergekit_geo.extras import require
from mergekit_geo.files.replacement import replacing
from mergekit_geo.outputs.writer import output_errors
from mergekit_geo.processes import main_process_first
from mergekit_geo.records.losses import finite

Row = Mapping[str, Any]
JSONL, PARQUET = ".jsonl", ".parquet"
AT_ONCE = 4096
"""Rows of Parquet that are in memory at once."""

TYPES = {str: "string", int: "int64", float: "float64"}
"""Arrow's names of the columns' types."""


def check_row_file(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that could not be written, before there is anything to write.

    Args:
        path: Of the file.
        overwrite: Whether one that is there may be replaced.

    Raises:
        ArgumentError: Its suffix is neither, or Parquet needs a library that is not installed.
        OutputExistsError: It is there.
        OutputError: Its folder is not.
    """
    if path.suffix.lower() not in (JSONL, PARQUET):
        raise ArgumentError(
            f"expected a {JSONL} or {PARQUET} file, found {path.name!r}", where=str(path)
        )
    if path.suffix.lower() == PARQUET:
        require("pyarrow", "writing parquet", where=str(path))
    if path.is_dir() or (path.exists() and not overwrite):
        remedy = "name a file" if path.is_dir() else "--overwrite replaces it"
        raise OutputExistsError("the file exists already", where=str(path), remedy=remedy)
    if not path.absolute().parent.is_dir():
        raise OutputError("no such folder", where=str(path.absolute().parent))


def write_rows(path: Path, rows: Iterable[Row], columns: Mapping[str, type]) -> None:
    """Write rows one after another; by the first process alone.

    Args:
        path: `.jsonl` or `.parquet`; what was there stays until all is written.
        rows: With just these columns, in this order; a number that is not finite becomes null.
        columns: Type of each: str, int or float.

    Raises:
        OutputError: The disk does not take it.
    """
    write = _write_parquet if path.suffix.lower() == PARQUET else write_lines
    main_process_first(lambda: _whole(path, (_sound(row, columns) for row in rows), columns, write))


def _whole(path: Path, rows: Iterator[Row], columns: Mapping[str, type], write: Any) -> None:
    with output_errors(path.absolute().parent, 0), replacing(path, f"{path.name}.new") as fresh:
        write(fresh, rows, columns)


def _sound(row: Row, columns: Mapping[str, type]) -> Row:
    return {name: finite(row[name]) if kind is float else row[name]
            for name, kind in columns.items()}  # fmt: skip


def write_lines(path: Path, rows: Iterable[Row], columns: Mapping[str, type] | None = None) -> None:
    """Write rows as lines of JSON."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def _write_parquet(path: Path, rows: Iterator[Row], columns: Mapping[str, type]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([(name, getattr(pa, TYPES[kind])()) for name, kind in columns.items()])
    with parquet.ParquetWriter(path, schema) as writer:
        while some := list(islice(rows, AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(some, schema))
