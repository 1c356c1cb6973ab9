"""Kinds of path between two models, by name: a rule for every position t in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.geometry.sphere import Slerp

KINDS: dict[str, Callable[[float], Rule]] = {
    "linear": lambda t: Linear((1 - t, t)),
    "slerp": lambda t: Slerp(t, "linear"),
}
"""A new kind is one line here."""


def path(kind: str) -> Callable[[float], Rule]:
    """The rule of a kind of path at each position.

    Raises:
        ArgumentError: No such kind.

    Example:
        >>> path("linear")(0.25).weights
        (0.75, 0.25)
    """
    if kind not in KINDS:
        raise ArgumentError(f"along {kind!r}: expected one of {', '.join(KINDS)}")
    return KINDS[kind]
