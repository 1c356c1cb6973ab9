"""The table of merge methods for the documentation."""

from __future__ import annotations

from collections.abc import Iterable

from mergekit_geo.merging.method_help import listing

HEAD = ("`merge_method`", "each tensor of the output", "source", "takes, with its default")


def method_table() -> str:
    """Name, formula, source and requirements of every method."""
    named = [(f"`{name}`", *others) for name, *others in listing(in_recipe=True)]
    rows = [HEAD, ("---",) * len(HEAD), *named]
    return "\n".join(table_row(row) for row in rows)


def table_row(cells: Iterable[str]) -> str:
    """A row of a table in Markdown."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
