"""What a view is made of: blocks of eight kinds, none with options.

A view knows its record and no place; console, card and page know blocks and no record. What is
empty is not shown anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mergekit_geo.views.chart import Picture

FIGURES = "figures"
"""Folder of pictures, beside the page."""


@dataclass(frozen=True)
class Paragraph:
    """A sentence or several."""

    text: str


@dataclass(frozen=True)
class Items:
    """Texts that stand below each other."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Texts in columns; not shown where it has no rows.

    Attributes:
        head: Titles of the columns.
        rows: Of each its cells.
        best: Row and column of the cells that are the best of their column.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: Collection[tuple[int, int]] = ()

    def taken(self, columns: Sequence[int]) -> Table:
        """Some columns of the table, in this order.

        Example:
            >>> Table(["a", "b", "c"], [["1", "2", "3"]], {(0, 2)}).taken([0, 2])
            Table(head=['a', 'c'], rows=[['1', '3']], best={(0, 1)})
        """
        rows = [[row[column] for column in columns] for row in self.rows]
        best = {(row, columns.index(j)) for row, j in self.best if j in columns}
        return Table([self.head[column] for column in columns], rows, best)


@dataclass(frozen=True)
class Chart:
    """A picture; not shown on a console.

    Attributes:
        picture: What is drawn.
        caption: What it shows, where it cannot be seen; how to read it stands in the picture's.
        name: Of the files in `figures` that hold it; empty where only pages show it.
    """

    picture: Picture
    caption: str = ""
    name: str = ""


@dataclass(frozen=True)
class Code:
    """Text to copy: its lines are kept as they are.

    Attributes:
        text: Such as a command.
        language: Of it, as Markdown names it.
    """

    text: str
    language: str = "sh"


@dataclass(frozen=True)
class Link:
    """A text that leads to an address."""

    text: str
    address: str


@dataclass(frozen=True)
class Section:
    """Blocks that belong together, under a title; consoles leave that out."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Folded:
    """Details: on a page behind a click, elsewhere left out."""

    title: str
    blocks: Sequence[Block]


Block = Paragraph | Items | Table | Chart | Code | Link | Section | Folded


@dataclass(frozen=True)
class View:
    """All that is shown of a record.

    Attributes:
        headline: Sentences, the most important first.
        blocks: What they rest on.
        files: Numbers for programs, by the name of the file in `figures` that holds them; made
            when that is written.
        brief: The same in a few lines, as `print` shows a result; the headline if empty.
        next: What to do next, in a line; consoles and pages show it below the headline.
        last: What is to be said after all else, in a line.
    """

    headline: Sequence[str] = ()
    blocks: Sequence[Block] = ()
    files: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)
    brief: Sequence[str] = ()
    next: str = ""
    last: str = ""


def charts(blocks: Sequence[Block]) -> Iterator[Chart]:
    """All charts among blocks, and within sections."""
    for block in blocks:
        if isinstance(block, Chart):
            yield block
        elif isinstance(block, Section | Folded):
            yield from charts(block.blocks)


def table(
    columns: Mapping[str, Sequence[str]], best: Mapping[str, Collection[int]] | None = None
) -> Table:
    """A table of its columns, without those that hold nothing.

    Args:
        columns: Cells by title.
        best: Rows of the best cells, by title.
    """
    kept = {name: cells for name, cells in columns.items() if any(cells)}
    cells = {(row, i) for i, name in enumerate(kept) for row in (best or {}).get(name, ())}
    return Table(list(kept), list(zip(*kept.values(), strict=True)), cells)
