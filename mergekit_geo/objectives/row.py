"""One row of data, which can say what it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mergekit_geo.errors import DataError
from mergekit_geo.objectives.task import Rows


class Row(dict[str, Any]):
    """Column to value; a column that is not there is an error that names the row.

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
    """

    def __init__(self, cells: Mapping[str, Any], name: str, source: str) -> None:
        super().__init__(cells)
        self.name, self.source = name, source

    def __missing__(self, column: str) -> Any:
        raise DataError(
            f"{self.name} has no column {column!r}; its columns are {', '.join(self) or 'none'}",
            where=self.source,
        )


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
