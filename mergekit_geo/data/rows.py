"""Data as it was read: cells by column, one mapping a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


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
