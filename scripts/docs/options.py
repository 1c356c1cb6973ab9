"""A command's options as tables of the documentation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING

from mergekit_geo.cli.options import options_of
from mergekit_geo.config.flags import is_required
from mergekit_geo.config.option import Declared
from mergekit_geo.specs.table import spec_of

HEAD = ("| | | default |", "| --- | --- | --- |")
FIRST = "Options"


def option_tables(command: str) -> str:
    """All that can be said to a command, a table a panel of its `--help`."""
    spec = spec_of(command)
    found = options_of(spec)
    usage = f"```text\n{' '.join(['geo-merge', command, *_positional(found)])} [OPTIONS]\n```"
    panels: dict[str, list[Declared]] = {}
    for one in found:
        panels.setdefault(one.option.panel or FIRST, []).append(one)
    return "\n\n".join([usage, *(_table(name, rows) for name, rows in panels.items())])


def _positional(found: Iterable[Declared]) -> list[str]:
    return [one.option.metavar for one in found if one.option.positional]


def _table(panel: str, rows: Iterable[Declared]) -> str:
    return "\n".join([f"### {panel}", "", *HEAD, *map(_row, rows)])


def _row(found: Declared) -> str:
    cells = (_name(found), _text(found), _default(found))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _name(found: Declared) -> str:
    known = found.option
    if known.positional:
        return f"`{known.metavar}`"
    spelt = [f"`{known.short}`"] * bool(known.short) + [f"`{known.flag}`"]
    if found.kind == "flag" and found.optional:
        spelt.append(f"`--no-{known.flag[2:]}`")
    return ", ".join(spelt)


def _text(found: Declared) -> str:
    choices = ", ".join(f"`{word}`" for word in found.option.choices)
    return found.option.text + f" One of {choices}." * bool(choices)


def _default(found: Declared) -> str:
    value = found.default
    if is_required(found) or found.option.required:
        return "required"
    if found.kind in {"flag", "off"} or value is None or value is MISSING or value == "":
        return ""
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
