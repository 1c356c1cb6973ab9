"""`--help` in plain text: no name is cut and no word is broken, at any width."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from textwrap import wrap

from mergekit_geo.specs.panels import OptionHelp, panels
from mergekit_geo.specs.spec import Spec
from mergekit_geo.specs.table import COMMANDS

PROGRAM = "geo-merge"
SUMMARY = "Merge neural-network checkpoints with evidence."
NARROWEST, WIDEST = 60, 100
HELP = ("-h, --help", "Show this message and exit.")

Explained = tuple[str, str]


def columns() -> int:
    """The width of the terminal, within what can be read."""
    return min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)


def program_help(options: Iterable[Explained], width: int) -> str:
    """The help of the program: its commands.

    Args:
        options: Name and text of its own options.
        width: Characters of a line.
    """
    commands = [(name, summary) for name, (_, summary) in COMMANDS.items()]
    return _joined(
        f"Usage: {PROGRAM} COMMAND [OPTIONS]",
        SUMMARY,
        _section("Commands", commands, width),
        _section("Options", [HELP, *options], width),
        _examples([f"{PROGRAM} soup a b c -o out", f"{PROGRAM} soup --help"], width),
    )


def command_help(spec: type[Spec], summary: str, width: int) -> str:
    """The help of a command: its options by panel, then what else it explains, then examples.

    Args:
        spec: Its options.
        summary: What it does, in one sentence.
        width: Characters of a line.
    """
    found = panels(spec)
    rows = {title: [(_name(one), _text(one)) for one in found[title]] for title in found}
    *_, last = rows.values()
    last.append(HELP)
    required = [one for one in found["Main options"] if not one.default or not one.flags]
    usage = " ".join([f"Usage: {PROGRAM}", spec.command, *map(_usage, required), "[OPTIONS]"])
    return _joined(
        *(_filled(text, width) for text in (usage, summary)),
        *(_section(title, shown, width) for title, shown in (rows | spec.topics()).items()),
        _examples(spec.examples, width),
    )


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _usage(one: OptionHelp) -> str:
    return " ".join([*one.flags[:1], one.metavar])


def _name(one: OptionHelp) -> str:
    return f"{', '.join(one.flags)} {one.metavar}".strip()


def _text(one: OptionHelp) -> str:
    choices = [f"choices: {', '.join(one.choices)}"] if one.choices else []
    default = f"default: {one.default}" if one.default else "required"
    return f"{one.text} [{'; '.join([*choices, default])}]"


def _section(title: str, rows: Sequence[Explained], width: int) -> str:
    """A heading, and names with their texts beside them, or below those that are long."""
    indent = min(max(len(name) for name, _ in rows) + 4, width // 3)
    return "\n".join([f"{title}:", *(_row(name, text, indent, width) for name, text in rows)])


def _row(name: str, text: str, indent: int, width: int) -> str:
    if len(name) + 4 > indent:
        return f"  {name}\n{_row('', text, indent, width)}"
    return "\n".join(_wrapped(text, width, f"  {name}".ljust(indent), " " * indent))


def _examples(lines: Iterable[str], width: int) -> str:
    """Command lines, folded as a shell reads them."""
    folded = (" \\\n      ".join(_wrapped(line, width - 8)) for line in lines)
    return "\n".join(["Examples:", *(f"  {line}" for line in folded)])


def _filled(text: str, width: int) -> str:
    return "\n".join(_wrapped(text, width))


def _wrapped(text: str, width: int, first: str = "", others: str = "") -> list[str]:
    """Lines of whole words, after indents of the first line and of the others."""
    return wrap(
        text, width, initial_indent=first, subsequent_indent=others,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
