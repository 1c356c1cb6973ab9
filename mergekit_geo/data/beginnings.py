"""The beginnings of long texts, where texts count whole and many of them should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mergekit_geo.data.rows import Row, Rows


def beginnings(rows: Rows, column: str, most: int) -> Rows:
    """Rows whose text in a column ends at a word within so many characters; other cells stay.

    Args:
        rows: The data.
        column: Of text; what is no text stays as it is.
        most: Characters; a word that is longer is cut.

    Example:
        >>> found = beginnings(Rows([{"text": "a green boat"}], ["1"], "x.jsonl"), "text", 9)
        >>> found.cells[0]["text"], found.notes
        ('a green', ['of each text the first 9 characters count'])
    """
    notes = [*rows.notes, f"of each text the first {most:,} characters count"]
    return Rows(_Begun(rows, column, most), rows.names, rows.source, notes)


class _Begun(Sequence[Mapping[str, Any]]):
    """Rows with shorter texts, read when they are asked for."""

    def __init__(self, rows: Rows, column: str, most: int) -> None:
        self.rows, self.column, self.most = rows, column, most

    def __len__(self) -> int:
        return len(self.rows.cells)

    def __getitem__(self, index: Any) -> Any:
        cells, text = self.rows.cells[index], self.rows.cells[index][self.column]
        if not isinstance(text, str) or len(text) <= self.most:
            return cells
        cut = text[: self.most + 1].rsplit(maxsplit=1)[0][: self.most]
        return Row({**cells, self.column: cut}, self.rows.names[index], self.rows.source)
