"""The texts that a task gives its tokenizer."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mergekit_geo.data.rows import Rows
    from mergekit_geo.tasks.task import Example, Task

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


class ExampleTexts:
    """The text of each example, as far as it is text.

    An example that is a window of a document has the text of that window, as its tokens spell it.

    Args:
        task: That made the examples.
        rows: Of which.
    """

    def __init__(self, task: Task, rows: Rows) -> None:
        self.task, self.rows = task, rows
        self.window_text = getattr(_inner(task), "window_text", None)

    def of(self, example: Example) -> str:
        """The text of an example; empty where there is none, as of a picture."""
        if self.window_text is not None:
            return str(self.window_text(example))
        return self.of_document(example.row)

    def of_document(self, document: int) -> str:
        """The whole text of a document; what stands in it several times is told once."""
        return "\n".join(dict.fromkeys(filter(None, self._texts[document])))

    def label_of(self, example: Example) -> str | None:
        """The name of an example's class, or its right answer; None where it has no single one."""
        if (answer := getattr(self.task, "answer_of", None)) is not None:
            return str(answer(example))
        target, labels = example.fields.get("target"), getattr(self.task, "labels", None)
        if not isinstance(target, int) or labels is None:
            return None
        return str(labels.name(target))

    @cached_property
    def _texts(self) -> Texts:
        return texts_of(self.task, self.rows)


def _inner(task: Task) -> Task:
    """A task without what turns its loss into one per byte."""
    inner: Task = getattr(task, "task", task)
    return inner if inner.name == task.name and hasattr(inner, "window_text") else task
