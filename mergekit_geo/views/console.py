"""A report on a terminal, or in a pipe: blocks in order, then what they come to."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as Grid
from rich.text import Text

from mergekit_geo.printable import printable
from mergekit_geo.records.plan import PlanMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.views import block
from mergekit_geo.views.view import VIEWS, not_measured, view_of

WIDE, UNBOUNDED = 160, 10_000
NAME = 28
"""Most characters of a line in the first column, where space is short."""


def print_report(report: Report) -> None:
    """Print a report: its blocks and headline on stdout, warnings on stderr."""
    errors = InertConsole(stderr=True, soft_wrap=True)
    for warning in report.warnings:
        errors.print(f"warning: {warning}")
    console = InertConsole()
    if not console.is_terminal:
        console = InertConsole(width=WIDE)
    view = view_of(report)
    written = report.output and not isinstance(report.result, PlanMeasurements)
    place = [block.Paragraph(f"written to {report.output}")] if written else []
    blocks = [
        *view.blocks,
        block.Items(view.headline),
        block.Paragraph(view.next),
        not_measured(report),
        *place,
    ]
    pushed = VIEWS[type(report.pushed)](report, report.pushed).blocks if report.pushed else ()
    for shown in [*blocks, *pushed, block.Paragraph(view.last)]:
        show(console, shown)


def show(console: InertConsole, shown: block.Block) -> None:
    """Print one block; pictures and details are not for consoles."""
    if (kind := type(shown)) in SHOWN:
        SHOWN[kind](console, shown)


def _paragraph(console: InertConsole, shown: block.Paragraph) -> None:
    if shown.text:
        console.print(shown.text)


def _items(console: InertConsole, shown: block.Items) -> None:
    for text in shown.texts:
        console.print(text)


def _table(console: InertConsole, shown: block.Table) -> None:
    """Print a table; where it is too wide, intervals stand below their values.

    Where that does not do either, groups of columns stand below each other.
    """
    if not shown.rows:
        return
    if _fits(console, grid := _grid(shown, below=False)):
        console.print(grid)
        return
    for part in _parts(console, shown):
        console.print(_grid(part, below=True))


def _fits(console: InertConsole, grid: Grid) -> bool:
    unbounded = console.options.update(max_width=UNBOUNDED)
    return Measurement.get(console, unbounded, grid).maximum <= console.width


def _parts(console: InertConsole, shown: block.Table) -> list[block.Table]:
    """Tables of the first column and as many others as fit beside it, at least one."""
    parts: list[list[int]] = []
    for column in range(1, len(shown.head)):
        wider = [0, *(parts[-1][1:] if parts else []), column]
        if parts and _fits(console, _grid(shown.taken(wider), below=True)):
            parts[-1] = wider
        else:
            parts.append([0, column])
    return [shown.taken(columns) for columns in parts or [[0]]]


def _grid(shown: block.Table, *, below: bool) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(shown.head):
        side: Literal["left", "right"] = "left" if index == 0 else "right"
        title = _text(name, " (?![↓↑])" if below and index else "")
        most = NAME if below and index == 0 else None
        grid.add_column(title, justify=side, overflow="fold", max_width=most)
    for i, row in enumerate(shown.rows):
        cells = [_text(cell, r" (?=\[|± )" if below else "") for cell in row]
        for j, cell in enumerate(cells):
            cell.stylize("bold" if (i, j) in shown.best else "")
        grid.add_row(*cells)
    return grid


def _text(text: str, break_at: str) -> Text:
    return Text(re.sub(break_at, "\n", printable(text)) if break_at else printable(text))


def _section(console: InertConsole, shown: block.Section) -> None:
    for inside in shown.blocks:
        show(console, inside)


SHOWN: dict[type, Callable[[InertConsole, Any], None]] = {
    block.Paragraph: _paragraph,
    block.Items: _items,
    block.Table: _table,
    block.Code: lambda console, shown: console.print(shown.text, soft_wrap=True),
    block.Link: lambda console, shown: console.print(f"{shown.text}: {shown.address}"),
    block.Section: _section,
}


class InertConsole(Console):
    """A console without markup, emoji and colours by guess, that shows each text in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, markup=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, with invisible characters escaped."""
        inert = [printable(o) if isinstance(o, str) else o for o in objects]
        super().print(*inert, **options)
