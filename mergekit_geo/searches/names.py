"""What models and slices are called in the names of dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from mergekit_geo.errors import ArgumentError
from mergekit_geo.recipes.reference import reference


def short_names(references: Iterable[str]) -> dict[str, str]:
    """The ends of models' names that tell them apart.

    Example:
        >>> short_names(["runs/a/last", "runs/b/last", "org/c"])
        {'runs/a/last': 'a/last', 'runs/b/last': 'b/last', 'org/c': 'c'}
    """
    names = list(dict.fromkeys(references))
    parts = {name: name.rstrip("/").split("/") for name in names}
    found = {}
    for name in names:
        ends = ("/".join(parts[name][-i:]) for i in range(1, len(parts[name]) + 1))
        others = [f"/{one.rstrip('/')}" for one in names if one != name]
        found[name] = next(
            (end for end in ends if not any(one.endswith(f"/{end}") for one in others)), name
        )
    return found


def name_of(raw: Any) -> str:
    """A model as its recipe names it, in one word."""
    with suppress(ArgumentError):  # told where the model is read
        return str(reference(raw))
    return str(raw)


def named_in(raw: Any) -> Iterator[str]:
    """Every model of a recipe, as it names them."""
    if isinstance(raw, dict):
        for key in ("model", "base_model"):
            if raw.get(key) is not None:
                yield name_of(raw[key])
        for value in raw.values():
            yield from named_in(value)
    elif isinstance(raw, list):
        for value in raw:
            yield from named_in(value)


def slice_name(raw: Any, number: int) -> str:
    """What a slice is called: its layers, or its number.

    Args:
        raw: As the recipe has it.
        number: From 0.

    Example:
        >>> slice_name({"sources": [{"model": "a", "layer_range": [0, 8]}]}, 0), slice_name({}, 1)
        ('layers 0-8', 'slice 2')
    """
    sources = raw.get("sources") if isinstance(raw, dict) else None
    first = sources[0] if isinstance(sources, list) and sources else None
    layers = first.get("layer_range") if isinstance(first, dict) else None
    if isinstance(layers, list) and len(layers) == 2:  # noqa: PLR2004
        return f"layers {layers[0]}-{layers[1]}"
    return f"slice {number + 1}"
