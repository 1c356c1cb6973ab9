"""What an estimate tells: more, less, no difference that matters, or too little to tell.

An interval that holds zero is evidence of nothing by itself. It speaks for no difference only where
one of a size that matters would have been detected.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

MATERIAL = 0.02
"""Share of the loss below which a difference or a barrier is negligible (Frankle 2020 takes 2 % of
error); the same of a share of right answers."""

LEAST = 1e-6
"""Smallest size that matters, for losses near zero."""

Finding = Literal["higher", "lower", "same", "unknown"]


class Spanned(Protocol):
    """What has an interval."""

    @property
    def low(self) -> float | None:
        """Lower end of its interval; None without one."""

    @property
    def high(self) -> float | None:
        """Upper end."""


class Measured(Spanned, Protocol):
    """A quantity with its interval, as in `Estimate` and in reports."""

    @property
    def value(self) -> float | None:
        """The estimate; None where it is not a number."""

    @property
    def detectable(self) -> float | None:
        """The size that would be detected; None where that is not known."""


def finding(found: Measured, limit: float) -> Finding:
    """Whether a quantity is above zero, below, as good as zero, or unknown.

    Args:
        found: The quantity.
        limit: The size that matters.

    Example:
        >>> from mergekit_geo.records.losses import Estimate
        >>> finding(Estimate(value=0.01, low=-0.1, high=0.12, detectable=0.15), limit=0.04)
        'unknown'
        >>> finding(Estimate(value=0.01, low=-0.01, high=0.03, detectable=0.03), limit=0.04)
        'same'
    """
    if found.value is None or found.low is None or found.high is None:
        return "unknown"
    if math.isnan(found.value):
        return "unknown"
    if found.low > 0:
        return "higher"
    if found.high < 0:
        return "lower"
    if found.detectable is not None and found.detectable > limit:
        return "unknown"
    return "same"


def limit_of(loss: float) -> float:
    """The size that matters beside a loss."""
    return max(MATERIAL * abs(loss), LEAST)


def sized(value: float, whole: float, what: str = "the loss") -> str:
    """A size, and its share of something.

    Example:
        >>> sized(0.0028, 1.9), sized(0.2, 0.0)
        ('0.0028 (0.15 % of the loss)', '0.2')
    """
    return f"{value:.2g}" + (f" ({percent(value / whole)} of {what})" if whole else "")


def percent(share: float) -> str:
    """Format a share as a percentage with two digits.

    Example:
        >>> percent(0.0014736), percent(-0.1234), percent(3.214)
        ('0.15 %', '-12 %', '321 %')
    """
    size = 100 * share
    return f"{size:.0f} %" if abs(size) >= 10 else f"{size:.2g} %"  # noqa: PLR2004
