"""Sizes of differences with their intervals in sentences, and lists of names."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mergekit_geo.records.findings import Spanned

MOST = 4
"""Most decimals of a number in a sentence."""


def size(value: float, found: Spanned) -> str:
    """The size of a difference with its interval, without the sign.

    Args:
        value: The difference.
        found: What has its interval.

    Example:
        >>> from mergekit_geo.records.losses import Estimate
        >>> size(-0.12, Estimate(value=-0.12, low=-0.153, high=-0.087))
        '0.120 ± 0.033'
        >>> size(0.12, Estimate(value=0.12, low=0.0, high=0.5))
        '0.12 [0.00, 0.50]'
    """
    if found.low is None or found.high is None:
        return f"{abs(value):.{MOST}f}"
    ends = (found.low, found.high) if value >= 0 else (-found.high, -found.low)
    return spanned(abs(value), *ends)


def signed(value: float, found: Spanned) -> str:
    """A difference with its sign and interval.

    Args:
        value: The difference.
        found: What has its interval.
    """
    if found.low is None or found.high is None:
        return f"{value:+.{MOST}f}"
    return spanned(value, found.low, found.high, "+")


def spanned(value: float, low: float, high: float, sign: str = "") -> str:
    """A number with its interval, by ± where that has it in the middle."""
    digits = decimals((high - low) / 2)
    if math.isclose(value - low, high - value, rel_tol=0.02, abs_tol=1e-6):
        return f"{value:{sign}.{digits}f} ± {(high - low) / 2:.{digits}f}"
    return f"{value:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def decimals(half: float) -> int:
    """Decimals that show two digits of half an interval.

    Example:
        >>> decimals(0.033), decimals(1.5), decimals(0.0)
        (3, 1, 4)
    """
    if not 0 < half < math.inf:
        return MOST
    return min(max(1 - math.floor(math.log10(half)), 0), MOST)


def listed(texts: Sequence[str]) -> str:
    """Texts with `and` before the last.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    *rest, last = texts or [""]
    return f"{', '.join(rest)} and {last}" if rest else last
