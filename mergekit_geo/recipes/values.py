"""Values in a recipe: a number, a gradient over the layers, or one by parts of tensor names."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mergekit_geo.errors import RecipeError
from mergekit_geo.files.sound_json import brief
from mergekit_geo.merging.parameter import Number
from mergekit_geo.printable import COMPARED


@dataclass(frozen=True)
class Gradient:
    """Numbers at even distances from the first layer to the last, linear between them.

    Attributes:
        values: At least one.

    Example:
        >>> Gradient((0.0, 1.0)).at(0.25), Gradient((0.0, 1.0, 0.5)).at(0.75)
        (0.25, 0.75)
    """

    values: tuple[float, ...]

    def at(self, place: float) -> float:
        """The number at a place from 0, the first layer, to 1, the last."""
        reach = place * (len(self.values) - 1)
        low = min(int(reach), len(self.values) - 1)
        high, share = min(low + 1, len(self.values) - 1), reach - low
        return (1 - share) * self.values[low] + share * self.values[high]


@dataclass(frozen=True)
class Entry:
    """One line of a list of filters.

    Attributes:
        filter: Part of a tensor's name; None is every tensor.
        value: What holds where it matches.
    """

    filter: str | None
    value: Value

    def matches(self, tensor: str) -> bool:
        """Whether the filter matches this tensor."""
        return self.filter in {None, "*"} or str(self.filter) in tensor


@dataclass(frozen=True)
class ByName:
    """A list of filters, of which the first match counts."""

    entries: tuple[Entry, ...]


Value = Number | Gradient | ByName


def parse_value(raw: object, where: str) -> Value:
    """Parse a value from YAML.

    Raises:
        RecipeError: It is none of the three.

    Example:
        >>> parse_value([0, 0.5, 1], "parameters.t")
        Gradient(values=(0.0, 0.5, 1.0))
    """
    if isinstance(raw, bool):
        return raw
    if (number := number_of(raw)) is not None:
        return number
    if isinstance(raw, dict):
        raw = [raw]
    if isinstance(raw, list) and raw:
        numbers = [None if isinstance(item, bool) else number_of(item) for item in raw]
        if all(number is not None for number in numbers):
            return Gradient(tuple(number for number in numbers if number is not None))
        return ByName(tuple(_entry(item, f"{where}[{i}]") for i, item in enumerate(raw)))
    raise RecipeError(
        f"expected a number, a list of numbers, or a list of {{filter, value}}, found {brief(raw)}",
        where=where,
    )


def in_turn(values: Sequence[Value]) -> Value:
    """The first that says something of a tensor: filters may match nothing, numbers always do.

    Example:
        >>> value = in_turn([parse_value({"filter": "mlp", "value": 0.2}, "density"), 0.5])
        >>> at(value, "mlp.up", 0.0), at(value, "norm", 0.0)
        (0.2, 0.5)
    """
    first, *others = values
    if not isinstance(first, ByName) or not others:
        return first
    rest = in_turn(others)
    return ByName(
        first.entries + (rest.entries if isinstance(rest, ByName) else (Entry(None, rest),))
    )


def layered(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as YAML has them, the inner first: where its filters match nothing, the outer.

    Example:
        >>> layered({"t": 0.5, "weight": 1}, {"t": {"filter": "mlp", "value": 0}})
        {'t': [{'filter': 'mlp', 'value': 0}, {'value': 0.5}], 'weight': 1}
    """
    found = {**outer, **{key: value for key, value in inner.items() if value is not None}}
    for key in outer.keys() & inner.keys():
        lines = [inner[key]] if isinstance(inner[key], dict) else inner[key]
        if isinstance(lines, list) and any(isinstance(line, dict) for line in lines):
            found[key] = [*lines, {"value": outer[key]}]
    return found


def numbers_in(value: Value) -> Iterator[Number]:
    """Every number of a value.

    Example:
        >>> list(numbers_in(parse_value([{"filter": "mlp", "value": [0, 1]}, 0.5], "t")))
        [0.0, 1.0, 0.5]
    """
    if isinstance(value, ByName):
        for entry in value.entries:
            yield from numbers_in(entry.value)
    elif isinstance(value, Gradient):
        yield from value.values
    else:
        yield value


def number_of(raw: object) -> float | None:
    """A finite number; YAML 1.1 reads `1e-3`, which has no dot, as text."""
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        return None
    try:
        found = float(raw)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _entry(raw: object, where: str) -> Entry:
    if not isinstance(raw, dict):
        return Entry(None, parse_value(raw, where))
    if unknown := [key for key in raw if key not in {"filter", "value"}]:
        raise RecipeError(
            f"unknown key {brief(unknown[0])}: expected filter and value", where=where
        )
    if "value" not in raw:
        raise RecipeError("a filter without a value", where=where, remedy="add `value: 0.5`")
    name = raw.get("filter")
    if name is not None and not isinstance(name, str):
        raise RecipeError(f"a filter is part of a tensor's name, found {brief(name)}", where=where)
    return Entry(name, parse_value(raw["value"], where))


def at(value: Value, tensor: str, place: float) -> Number | None:
    """Evaluate a value for one tensor; None where no filter matches.

    Args:
        value: Of a recipe.
        tensor: Its name.
        place: From 0, the first layer and what is outside the layers, to 1, the last.
    """
    if isinstance(value, Gradient):
        return value.at(place)
    if isinstance(value, ByName):
        for entry in value.entries:
            if entry.matches(tensor) and (found := at(entry.value, tensor, place)) is not None:
                return found
        return None
    return value


def has_gradient(value: Value) -> bool:
    """Whether it depends on the layer."""
    if isinstance(value, ByName):
        return any(has_gradient(entry.value) for entry in value.entries)
    return isinstance(value, Gradient) and len(value.values) > 1


def idle_filters(value: Value, tensors: Iterable[str]) -> list[str]:
    """Describe the filters that apply to no tensor, one line each."""
    if not isinstance(value, ByName):
        return []
    names, found = list(tensors), []
    taken = {name: next((e for e in value.entries if e.matches(name)), None) for name in names}
    for number, entry in enumerate(value.entries):
        if entry.filter is None or any(first is entry for first in taken.values()):
            continue
        if any(entry.matches(name) for name in names):
            sample = next(name for name in names if entry.matches(name))
            earlier = next(e for e in value.entries[:number] if e.matches(sample))
            found.append(
                f"filter {brief(entry.filter)} comes too late: {_said(earlier)} matches first"
            )
        else:
            near = ", ".join(nearest(entry.filter, names))
            found.append(f"filter {brief(entry.filter)} matches no tensor; the nearest: {near}")
    return found


def _said(entry: Entry) -> str:
    return "an entry without a filter" if entry.filter is None else f"filter {brief(entry.filter)}"


def nearest(part: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names that hold something like `part`, one layer of each.

    Example:
        >>> nearest("self_atn", ["layers.0.self_attn.q", "layers.0.mlp.up", "norm"], 1)
        ['layers.0.self_attn.q']
    """
    part = part[:COMPARED]
    unlike = {re.sub(r"\.\d+\.", ".0.", name): name for name in reversed(list(names))}
    scored = [(_likeness(part, name), name) for name in unlike.values()]
    return [name for _, name in sorted(scored, key=lambda pair: (-pair[0], pair[1]))[:count]]


def _likeness(part: str, name: str) -> float:
    pieces = name.split(".")
    joined = [*pieces, name, *(".".join(pair) for pair in pairwise(pieces))]
    return max(difflib.SequenceMatcher(None, part, piece).ratio() for piece in joined)
