"""Groups of pairs in which each is to be told from the others, the same in every measurement."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

SIZES = (16, 8, 4)
"""Pairs in a group: the most that leave `ENOUGH` groups."""

ENOUGH = 30


def group_size(count: int) -> int:
    """About how many pairs are in a group, of `count` pairs in all.

    Groups are the independent units of an interval, so there have to be some.

    Example:
        >>> group_size(1000), group_size(300), group_size(12)
        (16, 8, 4)
    """
    return next((size for size in SIZES if count >= ENOUGH * size), SIZES[-1])


def groups_of(keys: Sequence[str], seed: int, size: int) -> list[list[int]]:
    """Indices of the members of each group, alike in size.

    The order is that of a seeded hash of the keys, so it does not depend on that of the rows, and
    members of one key are neighbours.

    Args:
        keys: Of the members, such as their first texts.
        seed: Another seed makes other groups.
        size: About how many members a group has.

    Example:
        >>> [len(group) for group in groups_of("abcdefghij", 0, 4)]
        [5, 5]
        >>> groups_of("ab", 0, 4) == groups_of("ab", 0, 4)
        True
    """
    order = sorted(range(len(keys)), key=lambda i: _hash(keys[i], seed))
    parts = np.array_split(order, max(1, len(order) // size))
    return [part.tolist() for part in parts]


def _hash(key: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()
