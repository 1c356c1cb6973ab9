"""Quantities for people."""

from __future__ import annotations


def in_gigabytes(count: int) -> str:
    """Bytes for people.

    >>> in_gigabytes(2_200_000_000), in_gigabytes(1_500)
    ('2.20 GB', '0.002 MB')
    """
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.3f} MB"  # noqa: PLR2004
