"""Quantities for people."""

from __future__ import annotations

MINUTE = 60


def in_gigabytes(count: int) -> str:
    """Bytes for people.

    >>> in_gigabytes(2_200_000_000), in_gigabytes(1_500)
    ('2.20 GB', '0.002 MB')
    """
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.3f} MB"  # noqa: PLR2004


def in_words(seconds: float) -> str:
    """A duration for people.

    >>> in_words(8.4), in_words(95), in_words(7300)
    ('8 s', '2 min', '2 h 2 min')
    """
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / MINUTE), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
