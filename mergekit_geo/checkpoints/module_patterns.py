"""Values by regular expressions over module names, as peft's `rank_pattern` has them.

The expressions come from untrusted files, and some take exponential time to match
(`(a+)+$`): matching has a time limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic

from mergekit_geo.errors import FormatError
from mergekit_geo.files.sound_json import brief

PLAIN = re.compile(r"\^?(\w|\\?[.-])*")
"""Expressions that match a plain name, without backtracking."""

LONGEST, SECONDS = 10_000, 5.0
"""Most characters of an expression, and most seconds of all matching."""

Matches = Callable[[str, float], bool]


@dataclass(frozen=True)
class ModulePatterns:
    """Values of modules; the first expression that the end of a name matches counts.

    Args:
        key: What the values are called in the file.
        values: By expression.

    Raises:
        ValueError: Something is no regular expression.

    Example:
        >>> ModulePatterns("rank_pattern", {"q_proj": 4}).get("layers.0.q_proj", 8)
        4
    """

    key: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    _spent: list[float] = field(default_factory=lambda: [0.0], compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.values:
            assert self._compiled is not None

    @cached_property
    def _compiled(self) -> list[tuple[Matches, str]]:
        return [(_compiled(self.key, pattern), pattern) for pattern in self.values]

    def get(self, module: str, default: float) -> float:
        """The value of a module, `default` where no expression matches.

        Raises:
            FormatError: Matching takes too long.
        """
        for matches, pattern in self._compiled:
            began = monotonic()
            try:
                if matches(module, SECONDS):
                    return self.values[pattern]
            except TimeoutError as error:
                raise self._slow(pattern) from error
            self._spent[0] += monotonic() - began
            if self._spent[0] > SECONDS:
                raise self._slow(pattern)
        return default

    def _slow(self, pattern: str) -> FormatError:
        return FormatError(
            f"{self.key}: matching {brief(pattern)} takes more than {SECONDS:g} s",
            remedy="write the modules' names in its place",
        )


def _compiled(key: str, pattern: str) -> Matches:
    if len(pattern) > LONGEST:
        raise ValueError(f"{key} has an expression of {len(pattern):,} characters")
    whole = rf"(.*\.)?({pattern})$"
    if PLAIN.fullmatch(pattern):
        plain = re.compile(whole)
        return lambda module, _: plain.match(module) is not None
    import regex

    try:
        re.compile(pattern)
        timed = regex.compile(whole)
    except (re.error, regex.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{key}: {brief(pattern)} is no regular expression: {error}") from error
    return lambda module, seconds: timed.match(module, timeout=seconds) is not None
