"""Rows of which labels are not looked at: each gets one, so that it is read as labelled data is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mergekit_geo.data.rows import Row, Rows

LabelOf = Callable[[Mapping[str, Any]], Any]


def labelled(rows: Rows, column: str, label_of: LabelOf) -> Rows:
    """The rows with other labels, or with some where they have none.

    Args:
        rows: Data with or without labels.
        column: Where labels stand.
        label_of: From the cells of a row to its label.

    Example:
        >>> rows = Rows([{"text": "yes"}, {"text": "no", "label": 7}], ["1", "2"], "x.jsonl")
        >>> [cells["label"] for cells in labelled(rows, "label", lambda cells: 0).cells]
        [0, 0]
    """
    return replace(rows, cells=_Labelled(rows, column, label_of))


class _Labelled(Sequence[Mapping[str, Any]]):
    """Cells with one more column, made when they are asked for."""

    def __init__(self, rows: Rows, column: str, label_of: LabelOf) -> None:
        self.rows, self.column, self.label_of = rows, column, label_of

    def __len__(self) -> int:
        return len(self.rows.cells)

    def __getitem__(self, index: Any) -> Any:
        cells, name = self.rows.cells[index], self.rows.names[index]
        if not cells:
            return cells
        row = Row(cells, name, self.rows.source)
        return Row({**cells, self.column: self.label_of(row)}, name, self.rows.source)
