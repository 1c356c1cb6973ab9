"""What a recipe leaves to a search: ranges of numbers, and choices."""

from __future__ import annotations

from collections.abc import Iterator

from mergekit_geo.recipes.written import KeyPath

RANGE = ("min", "max", "log", "default")
CHOICES = ("choices", "default")
"""Keys of a range, and of choices."""

MARKS = ("min", "max", "choices")
"""A mapping with one of these is left to a search, where a number may stand."""


def is_searched(value: object) -> bool:
    """Whether a value is a range or choices.

    Example:
        >>> is_searched({"min": 0, "max": 1}), is_searched({"filter": "mlp", "value": 1})
        (True, False)
    """
    return isinstance(value, dict) and any(key in value for key in MARKS)


def searched_places(raw: object, loc: KeyPath = ()) -> Iterator[KeyPath]:
    """Places of a recipe that are left to a search: parameters and the method.

    Example:
        >>> list(searched_places({"merge_method": "ties", "parameters": {"lambda": {"min": 1}}}))
        [('parameters', 'lambda')]
    """
    if ("parameters" in loc or loc == ("merge_method",)) and is_searched(raw):
        yield loc
        return
    inner = (
        raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    )
    for key, value in inner:
        yield from searched_places(value, (*loc, key))
