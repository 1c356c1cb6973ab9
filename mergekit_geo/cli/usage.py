"""Errors of use: one line like all others, or one JSON document, and exit code 2."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Any

import typer

from mergekit_geo.cli.help import PROGRAM
from mergekit_geo.cli.session import Session
from mergekit_geo.errors import ArgumentError
from mergekit_geo.specs.panels import Verbosity

MISUSED = 2
LIKE = 0.65
"""How much an option has to resemble an unknown one to be what was meant."""

UsageError: Any = typer.BadParameter.__mro__[1]
UNREADABLE = {"int_parsing": "a whole number", "float_parsing": "a number"}
"""What is expected, by the name of pydantic's finding."""


class OneLine:
    """A program or a command that tells errors of use as it tells all others."""

    name: str | None

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:
        """Run it and exit, or return where `standalone_mode` is off."""
        words = list(sys.argv[1:] if args is None else args)
        standalone = extra.pop("standalone_mode", True)
        try:
            code = super().main(args, standalone_mode=False, **extra)  # type: ignore[misc]
        except UsageError as error:
            if not standalone:
                raise
            command = self.named(words)
            talk = Verbosity(json="--json" in words)
            Session(command, talk).fail(as_argument_error(error, command, words))
            code = MISUSED
        return sys.exit(code) if standalone else code

    def named(self, words: Sequence[str]) -> str:
        """The name of the command that these words run."""
        return self.name or ""


def as_argument_error(error: Any, command: str, words: Sequence[str]) -> ArgumentError:
    """An error of use: what is wrong, where, and what to write instead.

    Args:
        error: The parser's.
        command: In which it was made; empty for the program itself.
        words: Of the command line.
    """
    message = _unreadable(error) or error.message or error.format_message()
    message = message.removeprefix("Value error, ").rstrip(".")
    message = message[:1].lower() + message[1:]
    at_value = isinstance(error, typer.BadParameter) and error.message
    help_of = " ".join(filter(None, (PROGRAM, command, "--help")))
    remedy = _merge_command(message, words) or f"{_nearest(error)}{help_of}"
    return ArgumentError(message, where=_flag(error) if at_value else "", remedy=remedy)


def refuse_spaces(flags: Collection[str], words: Sequence[str]) -> None:
    """Refuse numbers after an option that takes several, if spaces separate them.

    Args:
        flags: The options that take several numbers.
        words: Of the command line.

    Raises:
        typer.BadParameter: Some are separated by spaces.

    Example:
        >>> refuse_spaces(["--weights"], ["a", "b", "--weights", "0.5", "0.5"])
        Traceback (most recent call last):
        typer._click.exceptions.BadParameter: numbers are separated by commas: --weights 0.5,0.5
    """
    for place, word in enumerate(words):
        flag, _, value = word.partition("=")
        if flag in flags:
            found = list(takewhile(_is_number, [*filter(None, [value]), *words[place + 1 :]]))
            if len(found) > 1 and not any(Path(one).exists() for one in found[1:]):
                joined = ",".join(one.strip(",") for one in found)
                raise typer.BadParameter(
                    f"numbers are separated by commas: {flag} {joined}", param_hint=flag
                )


def spread(flags: Collection[str], words: Sequence[str]) -> list[str]:
    """The words with an option that takes several before each of its values.

    Args:
        flags: The options that take all words up to the next option.
        words: Of the command line.

    Raises:
        typer.BadParameter: Another option stands where the first value should.

    Example:
        >>> spread(["--checkpoints"], ["--checkpoints", "a", "b", "-o", "out"])
        ['--checkpoints', 'a', '--checkpoints', 'b', '-o', 'out']
    """
    found: list[str] = []
    flag, is_first = "", False
    for word in words:
        if word.startswith("-"):
            if is_first:
                raise typer.BadParameter(f"option {flag!r} requires an argument")
            flag = word if word in flags else ""
            is_first = bool(flag)
        elif flag and not is_first:
            found.append(flag)
        else:
            is_first = False
        found.append(word)
    return found


def _is_number(word: str) -> bool:
    try:
        _ = [float(number) for number in word.strip(",").split(",")]
    except ValueError:
        return False
    return True


def _unreadable(error: Any) -> str:
    """What pydantic found, in words of ours; empty where it is another's finding."""
    found: Any = getattr(error.__cause__, "errors", list)()
    expected = found and UNREADABLE.get(found[0]["type"])
    return f"expected {expected}, found {found[0]['input']!r}" if expected else ""


def _flag(error: Any) -> str:
    if error.param is None:
        return error.param_hint or ""
    return max(error.param.opts, key=len) if error.param.opts[0][:1] == "-" else ""


def _nearest(error: Any) -> str:
    """`did you mean ...? `, or nothing where no option, or no choice of an option, is near."""
    if getattr(error, "possibilities", None) is not None:
        wrong = error.option_name.lstrip("-")
        known = {flag.lstrip("-"): flag for one in error.ctx.command.params for flag in one.opts}
    elif " is not one of " in (error.message or ""):
        wrong, *choices = re.findall(r"'([^']*)'", error.message)
        known = {choice: choice for choice in choices}
    else:
        return ""
    near = get_close_matches(wrong, known, 1, LIKE)
    return f"did you mean {known[near[0]]}? " if near else ""


def _merge_command(message: str, words: Sequence[str]) -> str:
    """Which command takes a word that is a merge method and invalid where it stands."""
    wrong, *_ = message.partition(" is not one of ")
    named = (word.removeprefix("--method=") for word in words)
    if invalid := [name for name in named if f"'{name}'" in wrong]:
        from mergekit_geo.merging.method_help import merge_command

        if found := max(map(merge_command, invalid)):
            return f"it is a merge method: {found}"
    return ""
