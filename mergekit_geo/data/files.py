"""Rows of a file, by its suffix."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mergekit_geo.data.rows import Row
from mergekit_geo.errors import DataError
from mergekit_geo.extras import require
from mergekit_geo.files.regular import read_bytes
from mergekit_geo.files.sound_json import parse_json

DATA_BYTES = 1 << 36
"""Size of the largest file of data that is accepted: it is read at once."""

Numbered = Iterator[tuple[int, Any]]


def read_file(path: Path) -> list[Row]:
    """Every row of a `.txt`, `.jsonl`, `.json`, `.csv` or `.parquet` file.

    Blank lines separate the rows of a `.txt` file, whose one column is `text`. Rows are called by
    the file and, where rows are lines, the line, else their number from 1.

    Raises:
        DataError: Another suffix, or contents that are not what the suffix says.
    """
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise DataError(
            f"expected one of {', '.join(READERS)}, found {suffix or 'no suffix'}",
            where=str(path),
            remedy="convert it",
        )
    return [
        Row(cells, f"{path.name}:{number}", str(path)) for number, cells in READERS[suffix](path)
    ]


def _txt(path: Path) -> Numbered:
    parts = [part for part in re.split(r"\n\s*\n", _text(path)) if part.strip()]
    yield from enumerate(({"text": part} for part in parts), start=1)


def _jsonl(path: Path) -> Numbered:
    for number, line in enumerate(_text(path).split("\n"), start=1):  # a string may hold U+2028
        if line.strip():
            yield number, _object(path, f"line {number}", _parsed(path, f"line {number} is", line))


def _json(path: Path) -> Numbered:
    text = _text(path)
    if "\n" in text.strip() and _is_object(text.split("\n", 1)[0]):  # an object a line
        yield from _jsonl(path)
        return
    found = _parsed(path, "the file is", text)
    if isinstance(found, dict) and "data" in found:
        found = found["data"]
    if not isinstance(found, list):
        raise DataError(
            'expected a list of objects or {"data": [...]}, found ' + _described(found),
            where=str(path),
        )
    for number, row in enumerate(found, start=1):
        yield number, _object(path, f"row {number}", row)


def _is_object(text: str) -> bool:
    try:
        return isinstance(parse_json(text), dict)
    except ValueError:
        return False


def _csv(path: Path) -> Numbered:
    limit = csv.field_size_limit(sys.maxsize)  # a document may be longer than 128 KiB
    try:
        reader = csv.DictReader(io.StringIO(_text(path)), strict=True)
        header = list(reader.fieldnames or ())
        if twice := next((name for name in header if header.count(name) > 1), None):
            raise DataError(f"two columns are called {twice!r}", where=str(path))
        for row in reader:
            if None in row:
                raise DataError(
                    f"line {reader.line_num} has more cells than the header", where=str(path)
                )
            lacking = [name for name, cell in row.items() if cell is None]
            yield reader.line_num, {name: row[name] for name in row if name not in lacking}
    except csv.Error as error:
        raise DataError(
            f"not CSV after line {reader.line_num}: {error}", where=str(path)
        ) from error
    finally:
        csv.field_size_limit(limit)


def _parquet(path: Path) -> Numbered:
    require("pyarrow", "reading parquet", where=str(path), kind=DataError)
    from pyarrow import ArrowException, parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError, ValueError, MemoryError) as error:
        raise DataError(f"the file is not parquet: {error}", where=str(path)) from error
    yield from enumerate(rows, start=1)


def _text(path: Path) -> str:
    try:
        return read_bytes(path, DATA_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text: {error.reason}", where=str(path)) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _parsed(path: Path, place: str, text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise DataError(f"{place} not JSON: {error}", where=str(path)) from error


def _object(path: Path, place: str, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{place} is not an object: found {_described(row)}", where=str(path))
    return row


def _described(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object with {', '.join(value) or 'nothing in it'}"
    return f"a {type(value).__name__}"


READERS: dict[str, Callable[[Path], Numbered]] = {
    ".txt": _txt,
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
"""Readers by suffix: from a path to numbered rows."""
