"""The texts that a task gives its tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mergekit_geo.data.rows import Rows
    from mergekit_geo.tasks.task import Task

Texts = list[list[str]]
"""The texts of each document; most have one."""


def texts_of(task: Task, rows: Rows) -> Texts:
    """The texts of each row that a task gives its tokenizer.

    Those of conversations are as the chat template of the task's tokenizer writes them; other
    tasks' are the cells of their columns.
    """
    if (own := getattr(task, "texts", None)) is not None:
        found: Texts = own(rows)
        return found
    columns = task.columns(rows)
    return [_strings([cells[column] for column in columns]) for cells in rows.cells]


def _strings(cell: Any) -> list[str]:
    """All strings in a cell, such as a list of words."""
    if isinstance(cell, str):
        return [cell]
    return [text for part in cell for text in _strings(part)] if isinstance(cell, list) else []
