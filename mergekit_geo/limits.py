"""Ranges of numeric settings, checked where a setting is given, before any work."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mergekit_geo.errors import ArgumentError

MOST = {
    "members": 1_000, "bends": 1_000, "restarts": 1_000, "grid": 1_001, "points": 10_001,
    "average_points": 10_001, "seq_len": 10**7, "batch_size": 10**6, "accumulation": 10**6,
    "lora_rank": 10**6, "seed": 2**31 - 1,
}  # fmt: skip
"""More of these is a slip of the pen: all would take memory or time before the first result.

A seed is one that numpy and torch can both take.
"""

LARGEST = 10**12
"""Largest value of every other count."""


def check_count(name: str, value: int | None, least: int = 1) -> None:
    """Refuse a count outside its range; None is accepted.

    Args:
        name: Of the setting.
        value: As given.
        least: From where on it makes sense.

    Raises:
        ArgumentError: Too small, or larger than anything that could be done.

    Example:
        >>> check_count("members", 100_000_000, 2)
        Traceback (most recent call last):
        mergekit_geo.errors.ArgumentError: members must be at least 2 and at most 1,000, found \
100000000
    """
    most = MOST.get(name, LARGEST)
    if value is None or least <= value <= most:
        return
    bounds = f"at least {least}" + (f" and at most {most:,}" if value > most else "")
    found = value if abs(value) < LARGEST**2 else f"one of {value.bit_length()} bits"
    raise ArgumentError(f"{name.replace('_', '-')} must be {bounds}, found {found}")


def check_finite(name: str, value: float | None) -> None:
    """Refuse infinities and NaN; None is accepted.

    Raises:
        ArgumentError: It is neither finite nor None.
    """
    if value is not None and not math.isfinite(value):
        raise ArgumentError(f"{name.replace('_', '-')} must be a finite number, found {value}")


@dataclass(frozen=True)
class Interval:
    """The numbers that a setting admits.

    Attributes:
        low: The least.
        high: The largest.
        open_low: Whether `low` itself is left out.
        open_high: Whether `high` itself is left out.

    Example:
        >>> str(Interval(0, 1, open_low=True)), 0 in Interval(0, 1), 0 in Interval(0, 1, True)
        ('(0, 1]', True, False)
    """

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.open_low else self.low <= value
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        begin, end = "[("[self.open_low], "])"[self.open_high]
        return f"{begin}{self.low:g}, {self.high:g}{end}"

    def check(self, name: str, value: float) -> None:
        """Refuse a number outside.

        Args:
            name: Of the setting.
            value: As given.

        Raises:
            ArgumentError: The number lies outside, or is none.
        """
        if value not in self:
            raise ArgumentError(f"{name} must lie in {self}, found {value:g}")
