"""A report on a terminal, or in a pipe: blocks in order, then what they come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from rich import box
from rich.table import Table as Grid
from rich.text import Text

from mergekit_geo.printable import printable
from mergekit_geo.records.plan import PlanMeasurements
from mergekit_geo.records.report import Report
from mergekit_geo.views.block import (
    Block,
    Code,
    Items,
    Link,
    Paragraph,
    Section,
    Table,
)
from mergekit_geo.views.inert import InertConsole
from mergekit_geo.views.view import VIEWS, not_measured, view_of

WIDE = 160


def print_report(report: Report) -> None:
    """Tables and verdict on stdout, warnings on stderr."""
    errors = InertConsole(stderr=True, soft_wrap=True)
    for warning in report.warnings:
        errors.print(f"warning: {warning}")
    console = InertConsole()
    if not console.is_terminal:
        console = InertConsole(width=WIDE)
    view = view_of(report)
    written = report.output and not isinstance(report.result, PlanMeasurements)
    place = [Paragraph(f"written to {report.output}")] if written else []
    blocks = [*view.blocks, Items(view.headline), not_measured(report), *place]
    pushed = VIEWS[type(report.pushed)](report, report.pushed).blocks if report.pushed else ()
    for block in [*blocks, *pushed]:
        show(console, block)


def show(console: InertConsole, block: Block) -> None:
    """Print one block; pictures and details are not for consoles."""
    if (kind := type(block)) in SHOWN:
        SHOWN[kind](console, block)


def _paragraph(console: InertConsole, block: Paragraph) -> None:
    if block.text:
        console.print(block.text)


def _items(console: InertConsole, block: Items) -> None:
    for text in block.texts:
        console.print(text)


def _table(console: InertConsole, block: Table) -> None:
    if not block.rows:
        return
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(block.head):
        side: Literal["left", "right"] = "left" if index == 0 else "right"
        grid.add_column(Text(printable(name)), justify=side, overflow="fold")
    for row in block.rows:
        grid.add_row(*(Text(printable(cell)) for cell in row))
    console.print(grid)


def _section(console: InertConsole, block: Section) -> None:
    for inside in block.blocks:
        show(console, inside)


SHOWN: dict[type, Callable[[InertConsole, Any], None]] = {
    Paragraph: _paragraph,
    Items: _items,
    Table: _table,
    Code: lambda console, block: console.print(block.text, soft_wrap=True),
    Link: lambda console, block: console.print(f"{block.text} {block.address}", soft_wrap=True),
    Section: _section,
}
