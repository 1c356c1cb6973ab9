"""The table of merge methods for the documentation."""

from __future__ import annotations

from collections.abc import Iterable

from mergekit_geo.merging.method_help import listing
from mergekit_geo.merging.methods import METHODS
from mergekit_geo.merging.parameter import SearchRange

HEAD = ("`merge_method`", "each tensor of the output", "source", "takes, with its default")

SEARCHED = ("parameter", "searched", "by")


def method_table() -> str:
    """Name, formula, source and requirements of every method."""
    named = [(f"`{name}`", *others) for name, *others in listing(in_recipe=True)]
    rows = [HEAD, ("---",) * len(HEAD), *named]
    return "\n".join(table_row(row) for row in rows)


def searched_table() -> str:
    """What a search without a recipe tries of every parameter, and by which methods."""
    found: dict[tuple[str, SearchRange], list[str]] = {}
    for method in METHODS.values():
        for one in method.parameters:
            if one.searched is not None:
                found.setdefault((one.name, one.searched), []).append(f"`{method.name}`")
    rows = [SEARCHED, ("---",) * len(SEARCHED)]
    rows += [(f"`{key}`", _span(asks), ", ".join(names)) for (key, asks), names in found.items()]
    return "\n".join(table_row(row) for row in rows)


def _span(asks: SearchRange) -> str:
    return f"{asks.low:g} to {asks.high:g}{', by the logarithm' * asks.log}"


def table_row(cells: Iterable[str]) -> str:
    """A row of a table in Markdown."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
