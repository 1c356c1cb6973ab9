"""A command's options as tables of the documentation."""

from __future__ import annotations

from collections.abc import Iterable

from mergekit_geo.specs.panels import OptionHelp, panels
from mergekit_geo.specs.table import spec_of
from scripts.docs.methods import table_row

HEAD = ("| | | default |", "| --- | --- | --- |")


def option_tables(command: str) -> str:
    """All that can be said to a command, a table a panel of its `--help`."""
    found = panels(spec_of(command))
    arguments = [one.metavar for rows in found.values() for one in rows if not one.flags]
    usage = f"```text\n{' '.join(['geo-merge', command, *arguments])} [OPTIONS]\n```"
    return "\n\n".join([usage, *(_table(name, rows) for name, rows in found.items())])


def _table(panel: str, rows: Iterable[OptionHelp]) -> str:
    return "\n".join([f"### {panel}", "", *HEAD, *map(_row, rows)])


def _row(one: OptionHelp) -> str:
    name = " ".join(f"`{flag}`" for flag in one.flags) or f"`{one.metavar}`"
    choices = ", ".join(f"`{word}`" for word in one.choices)
    text = one.text + f" One of {choices}." * bool(choices)
    return table_row((name, text, one.default or "required"))
