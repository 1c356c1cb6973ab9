"""Rows of data: cells by column, what a row lacks, and which column holds what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from mergekit_geo.errors import DataError

LOOKED_AT = 100
"""Number of rows searched for a nested column, which may be null in some."""


@dataclass(frozen=True)
class Rows:
    """Data as it was read.

    Attributes:
        cells: Column to value, one mapping a row. A row is a document.
        names: What each row is called, such as `file.jsonl:3`.
        source: Where they are from, for messages.
        notes: What was guessed.
    """

    cells: Sequence[Mapping[str, Any]]
    names: Sequence[str]
    source: str
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in the order of the first row that has any."""
        return next((list(cells) for cells in self.cells if cells), [])


class Row(dict[str, Any]):
    """Values by column; a missing column raises an error that names the row.

    Args:
        cells: Column to value.
        name: What the row is called, such as `file.jsonl:3`.
        source: Where it is from.

    Raises:
        DataError: On reading a column that the row lacks.

    Example:
        >>> Row({"text": "abc"}, "x.jsonl:1", "x.jsonl")["body"]
        Traceback (most recent call last):
        mergekit_geo.errors.DataError: x.jsonl: x.jsonl:1 has no column 'body'; its columns are text
        >>> Row({"translation": {"en": "yes"}}, "x.jsonl:1", "x.jsonl")["translation.en"]
        'yes'
    """

    def __init__(self, cells: Mapping[str, Any], name: str, source: str) -> None:
        super().__init__(cells)
        self.name, self.source = name, source

    def __missing__(self, column: str) -> Any:
        value: Any = self
        for part in column.split("."):
            if value is None:
                return None
            if not isinstance(value, Mapping) or part not in value:
                raise DataError(
                    f"{self.name} has no column {column!r}; its columns are "
                    f"{', '.join(column_names(self)) or 'none'}",
                    where=self.source,
                )
            value = value[part]
        return value


def column_names(cells: Mapping[str, Any]) -> list[str]:
    """Columns of a row; what is nested has a dot.

    Example:
        >>> column_names({"id": 1, "translation": {"en": "yes", "fr": "oui"}})
        ['id', 'translation.en', 'translation.fr']
    """
    found = []
    for name, cell in cells.items():
        nested = column_names(cell) if isinstance(cell, Mapping) else []
        found += [f"{name}.{part}" for part in nested] or [name]
    return found


def filled(rows: Rows, columns: Sequence[str]) -> Rows:
    """Keep the rows with values in all of some columns, and note how many have not.

    Raises:
        DataError: A row lacks a column, or none has something in all of them.
    """
    kept = [
        number
        for number, cells in enumerate(rows.cells)
        if cells and not any(is_empty(cells[column]) for column in columns)
    ]
    if (left_out := len(rows.cells) - len(kept)) == 0:
        return rows
    named = " or ".join(map(repr, columns))
    if not kept:
        raise DataError(f"every row is empty in column {named}", where=rows.source)
    verb = "row is" if left_out == 1 else "rows are"
    notes = [*rows.notes, f"{left_out} {verb} empty in column {named} and left out"]
    return replace(some(rows, kept), notes=notes)


def some(rows: Rows, kept: Sequence[int]) -> Rows:
    """Rows of some indices, in that order, with notes of their own.

    Example:
        >>> some(Rows([{"x": 1}, {"x": 2}], ["1", "2"], "x.jsonl"), [1]).names
        ['2']
    """
    return Rows(_Some(rows.cells, kept), [rows.names[i] for i in kept], rows.source)


def is_empty(cell: Any) -> bool:
    """Whether a cell holds nothing: null, not a number, blank text, nothing in a list or object.

    Example:
        >>> [is_empty(cell) for cell in (None, " ", [], {"bytes": None}, 0, "a")]
        [True, True, True, True, False, False]
    """
    if isinstance(cell, str):
        return not cell.strip()
    if isinstance(cell, dict):
        return all(part is None for part in cell.values())
    if isinstance(cell, float):
        return math.isnan(cell)
    return cell is None or (isinstance(cell, list | tuple) and not cell)


class _Some(Sequence[Mapping[str, Any]]):
    """Some of the rows, read when they are asked for."""

    def __init__(self, cells: Sequence[Mapping[str, Any]], kept: Sequence[int]) -> None:
        self.cells, self.kept = cells, kept

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: Any) -> Any:
        return self.cells[self.kept[index]]


def texts_of(rows: Rows, column: str) -> list[str]:
    """One column of all rows, which must be text.

    Raises:
        DataError: A row holds something else; the message names it.
    """
    found = []
    for cells, name in zip(rows.cells, rows.names, strict=True):
        if not isinstance(cell := cells[column], str):
            raise DataError(
                f"{name} has no text in column {column!r}, found {type(cell).__name__}",
                where=rows.source,
                remedy="name the column with --text-column",
            )
        found.append(cell)
    return found


def find_column(rows: Rows, asked: str | None, usual: Sequence[str], what: str, flag: str) -> str:
    """The column that holds `what`; a guess is noted in `rows.notes`.

    Args:
        rows: The data.
        asked: The column that the user names; `translation.en` is nested.
        usual: Names to look for, best first, if none is asked for.
        what: For the message, such as `text`.
        flag: The option that names it.

    Raises:
        DataError: No such column; the message lists those there are.

    Example:
        >>> rows = Rows([{"id": 1, "content": "abc"}], ["1"], "x.jsonl")
        >>> find_column(rows, None, ("text", "content"), "text", "--text-column")
        'content'
        >>> rows.notes
        ["text is taken from column 'content'"]
    """
    names = rows.columns
    if asked is not None:
        if asked in names or any(asked in column_names(c) for c in islice(rows.cells, LOOKED_AT)):
            return asked
        problem = f"no column {asked!r}"
    else:
        found = next((name for name in usual if name in names), None)
        if found is not None:
            note = f"{what} is taken from column {found!r}"
            if len(names) > 1 and note not in rows.notes:
                rows.notes.append(note)
            return found
        problem = f"no column that looks like {what}"
    shown = column_names(next(filter(None, rows.cells), {}))
    raise DataError(
        f"{problem}; its columns are {', '.join(shown) or 'none'}",
        where=rows.source,
        remedy=f"name the column with {flag}",
    )
