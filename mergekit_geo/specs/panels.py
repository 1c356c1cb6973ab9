"""The options of a command as `--help` and the documentation show them: panels of entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mergekit_geo.config.flags import is_required
from mergekit_geo.config.measures import PANEL as COMPUTE
from mergekit_geo.config.option import Declared, declared, option
from mergekit_geo.specs.spec import Spec

MAIN, VERBOSITY = "Main options", "Verbosity"
METAVARS = {
    "text": "TEXT", "flag": "", "off": "", "whole": "INT", "number": "FLOAT", "path": "PATH",
    "texts": "TEXT", "sources": "DATA", "numbers": "FLOAT,...", "pair": "FLOAT FLOAT",
    "data": "DATA", "by_model": "DATA",
}  # fmt: skip
"""What a value is called in help, by the kind of the option."""


@dataclass(frozen=True)
class Verbosity:
    """What a command prints."""

    json: bool = option(False, "Print the report as one JSON document.", panel=VERBOSITY)
    quiet: bool = option(False, "Print no progress and no remarks.", panel=VERBOSITY)
    debug: bool = option(False, "Print the traceback of an error.", panel=VERBOSITY)


@dataclass(frozen=True)
class Processes:
    """The number of processes of a command."""

    num_processes: int = option(1, "Share the examples among this many processes.", panel=COMPUTE)


@dataclass(frozen=True)
class OptionHelp:
    """An option as it is shown.

    Attributes:
        flags: Its spellings, such as `-o` and `--out`; empty for an argument.
        metavar: What its value is called; empty for a flag.
        text: Its help.
        choices: The words that it admits; empty where any value of its type is admitted.
        default: What holds where it is not given; empty where it is required.
    """

    flags: tuple[str, ...]
    metavar: str
    text: str
    choices: tuple[str, ...]
    default: str


def options_of(spec: type[Spec]) -> list[Declared]:
    """All options that a command takes on the command line, in the order of declaration."""
    own = [one for one in declared(spec) if one.on_command_line and not one.option.shared]
    processes = list(declared(Processes)) if spec.in_processes else []
    return [*own, *processes, *declared(Verbosity)]


def panels(spec: type[Spec]) -> dict[str, list[OptionHelp]]:
    """The options of a command by panel: the main options first, then the others.

    Example:
        >>> from mergekit_geo.specs.merges import SlerpSpec
        >>> list(panels(SlerpSpec))
        ['Main options', 'Models that differ', 'Evaluation data', 'Output', 'Compute', 'Verbosity']
        >>> panels(SlerpSpec)["Main options"][1].flags
        ('-o', '--out')
    """
    names = {name: place for place, name in enumerate(spec.essential)}
    found = sorted(options_of(spec), key=lambda one: names.get(one.name, len(names)))
    shown: dict[str, list[OptionHelp]] = {MAIN: []}
    for one in found:
        panel = MAIN if one.name in names else one.option.panel or MAIN
        shown.setdefault(panel, []).append(entry(one))
    return shown


def entry(found: Declared) -> OptionHelp:
    """An option as it is shown."""
    known = found.option
    flags = (known.short, known.flag, f"--no-{known.flag[2:]}" * _has_opposite(found))
    metavar = known.metavar or ("NAME" if known.choices else METAVARS[found.kind])
    return OptionHelp(
        tuple(filter(None, flags)), metavar, known.text,
        known.choices, "" if is_required(found) or known.required else _default(found),
    )  # fmt: skip


def _has_opposite(found: Declared) -> bool:
    return found.kind == "flag" and found.optional


def _default(found: Declared) -> str:
    if found.option.unset:
        return found.option.unset
    return "off" if found.kind in {"flag", "off"} else shown(found.default)


def shown(value: Any) -> str:
    """A default as a reader takes it in.

    Example:
        >>> shown(1 / 3), shown(10.0), shown(("linear", "slerp"))
        ('0.333', '10', 'linear, slerp')
    """
    if isinstance(value, tuple):
        return ", ".join(map(shown, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
