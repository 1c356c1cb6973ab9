"""What was understood of the data, with one example, for `--show-example`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mergekit_geo.data.rows import column_names
from mergekit_geo.tasks.shown import CLOSE, OPEN, shown

if TYPE_CHECKING:
    from mergekit_geo.data.rows import Rows
    from mergekit_geo.evaluation.sample import Sample
    from mergekit_geo.tasks.task import Task

MOST = 2_000
"""Characters of an example that are shown: of a longer one the beginning and the end."""


@dataclass(frozen=True)
class Understood:
    """How the rows of a set were read.

    Attributes:
        shape: What the columns hold that are used.
        columns: All columns of the first row; what is nested has a dot.
        read: How many rows there are.
        kept: How many of them are not empty.
        names: What the kept ones are called.
    """

    shape: str
    columns: Sequence[str]
    read: int
    kept: int
    names: Sequence[str]

    @classmethod
    def of(cls, task: Task, rows: Rows, kept: Rows) -> Understood:
        """From what a task makes examples of.

        Args:
            task: Reads the rows.
            rows: All of them.
            kept: Those that are not empty.
        """
        own = getattr(task, "shape", None)
        columns = " and ".join(map(repr, task.columns(kept)))
        told = f"{task.name} from {columns}" if columns else task.name
        shape = str(own(kept)) if own else told
        first: Mapping[str, Any] = next(filter(None, kept.cells), {})
        return cls(shape, column_names(first), len(rows.cells), len(kept.cells), kept.names)


def told_example(name: str, source: str, sample: Sample) -> Iterator[str]:
    """Lines that tell how a set was read: shape, columns, counts, notes, and one example.

    Args:
        name: Of the set.
        source: Where it is from.
        sample: What was made of it.
    """
    task, known = sample.objective.task, sample.understood
    example = sample.objective.kept[0]
    yield f"{name}: {known.shape}, from {source}"
    yield f"  columns: {', '.join(known.columns)}"
    yield (
        f"  rows: {known.kept:,} of {known.read:,}; examples: {len(sample.objective.kept):,} of "
        f"{sample.available:,}; loss per {task.unit}{task.metric and f', {task.metric}'}"
    )
    yield from (f"  note: {note}" for note in sample.notes)
    yield f"  example {known.names[example.row]}, what counts between {OPEN} and {CLOSE}:"
    yield from _middle_left_out(shown(task, example)).split("\n")


def _middle_left_out(text: str) -> str:
    if len(text) <= MOST:
        return text
    left_out = f"\n... {len(text) - MOST:,} characters ...\n"
    return text[: MOST // 2] + left_out + text[-MOST // 2 :]
