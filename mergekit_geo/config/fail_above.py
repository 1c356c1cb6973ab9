"""Limits of barriers, as `--fail-above [SET=]X` says them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from mergekit_geo.errors import ArgumentError

Said = float | str | Sequence[str] | None
"""A number, `SET=X`, several of these, or nothing."""


def limits(said: Said, sets: Collection[str]) -> dict[str, float]:
    """The limit of each set; one that names no set is that of all others.

    Args:
        said: Limits in units of the loss.
        sets: Names of the sets.

    Raises:
        ArgumentError: No number, no such set, or one set twice.

    Example:
        >>> limits(["0.1", "code=0.02"], ["code", "chat"])
        {'code': 0.02, 'chat': 0.1}
        >>> limits(0.1, ["code"])
        {'code': 0.1}
    """
    if said is None:
        return {}
    several = [said] if isinstance(said, float | int | str) else said
    found: dict[str, float] = {}
    for one in several:
        name, value = _read(str(one))
        if name and name not in sets:
            raise ArgumentError(
                f"--fail-above {one}: no set {name!r}", remedy=f"the sets are {', '.join(sets)}"
            )
        if name in found:
            raise ArgumentError(f"--fail-above is given twice for {name or 'all sets'}")
        found[name] = value
    named = {name: found.get(name, found.get("", math.inf)) for name in sets}
    return {name: limit for name, limit in named.items() if limit < math.inf}


def _read(said: str) -> tuple[str, float]:
    name, _, number = said.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ArgumentError(
            f"--fail-above {said}: expected a number", remedy="write 0.05, or code=0.05 for a set"
        )
    return name, value
