"""Ranges and choices as a recipe writes them: `{min: 0, max: 1}`, `{choices: [ties, slerp]}`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from mergekit_geo.errors import RecipeError
from mergekit_geo.files.sound_json import brief
from mergekit_geo.merging.parameter import SearchRange
from mergekit_geo.printable import nearest_of
from mergekit_geo.recipes.searched import CHOICES, RANGE
from mergekit_geo.recipes.values import number_of
from mergekit_geo.recipes.written import KeyPath, Written, path_of

LONGEST = 40
"""Characters of a label of a choice."""


@dataclass(frozen=True)
class KeyPlace:
    """A value of a recipe, and where it stands.

    Attributes:
        text: The recipe.
        loc: Keys that lead to it.
    """

    text: Written
    loc: KeyPath = ()

    def __truediv__(self, key: int | str) -> KeyPlace:
        """What stands below a key."""
        return KeyPlace(self.text, (*self.loc, key))

    @property
    def where(self) -> str:
        """File and line."""
        return self.text.where(*self.loc)

    def refuse(self, why: str, remedy: str = "") -> NoReturn:
        """Say what is wrong here.

        Raises:
            RecipeError: With the line.
        """
        path = path_of(self.loc)
        raise RecipeError(f"{path}: {why}", where=self.where, remedy=remedy)


@dataclass(frozen=True)
class NumberRange(SearchRange):
    """Numbers that a search may ask for.

    Attributes:
        default: Where the search starts; None where the recipe does not say.

    Example:
        >>> NumberRange.of({"min": 0.01, "max": 1, "log": True}, KeyPlace(Written({}))).middle
        0.1
    """

    default: float | None = None

    @classmethod
    def of(cls, raw: Mapping[str, Any], place: KeyPlace) -> NumberRange:
        """A range as it is written.

        Args:
            raw: The mapping.
            place: Where it stands.

        Raises:
            RecipeError: It is none.
        """
        _refuse_unknown(raw, RANGE, "a range", place)
        low, high = (_number(raw, key, place) for key in ("min", "max"))
        if not low < high:
            is_empty = "there is nothing between them" if low == high else "min is above max"
            turned = f"{{min: {high:g}, max: {low:g}}}"
            remedy = f"write {low:g}" if low == high else f"write {turned}"
            place.refuse(f"from {low:g} to {high:g}: {is_empty}", remedy)
        log = raw.get("log", False)
        if not isinstance(log, bool):
            (place / "log").refuse(f"expected true or false, found {brief(log)}")
        if log and low <= 0:
            place.refuse(
                f"logarithms begin above 0, and min is {low:g}",
                f"write `min: {high / 100:g}`, or leave log out",
            )
        default = _number(raw, "default", place) if raw.get("default") is not None else None
        if default is not None and not low <= default <= high:
            (place / "default").refuse(f"{default:g} is not between {low:g} and {high:g}")
        return cls(low, high, log, default)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def middle(self) -> float:
        """Halfway, by the logarithm where that is searched."""
        if not self.log:
            return self.low / 2 + self.high / 2
        return min(max(math.sqrt(self.low) * math.sqrt(self.high), self.low), self.high)


@dataclass(frozen=True)
class Choices:
    """Values of which a search may ask for one.

    Attributes:
        options: What is laid in their place.
        labels: What they are called.
        default: The label that the search starts at.
    """

    options: tuple[Any, ...]
    labels: tuple[str, ...]
    default: str

    @classmethod
    def of(cls, raw: Mapping[str, Any], place: KeyPlace, *, of_method: bool = False) -> Choices:
        """Choices as they are written.

        Args:
            raw: The mapping.
            place: Where it stands.
            of_method: Whether they are of `merge_method`.

        Raises:
            RecipeError: They are none, or equal.
        """
        _refuse_unknown(raw, CHOICES, "choices", place)
        options = raw["choices"]
        if not isinstance(options, list) or not options:
            remedy = "list at least two: `choices: [0.5, 1]`"
            (place / "choices").refuse(
                f"expected a list of choices, found {brief(options)}", remedy
            )
        seen = [_told(one) for one in options]
        for i, one in enumerate(options):
            if seen[i] in seen[:i]:
                (place / "choices" / i).refuse(f"{brief(one)} is there twice", "leave one out")
        if len(options) == 1:
            (place / "choices").refuse("one choice is none", f"write {_label(options[0])}")
        names = [_method_label(one) if of_method else _label(one) for one in options]
        labels = distinct(names)
        default = raw.get("default")
        if default is None:
            return cls(tuple(options), labels, labels[0])
        found = options.index(default) if default in options else None
        if found is None and str(default) not in labels:
            (place / "default").refuse(
                f"{brief(default)} is no choice", f"one of {', '.join(labels)}"
            )
        return cls(tuple(options), labels, str(default) if found is None else labels[found])


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names of which none is there twice: later ones are numbered.

    Example:
        >>> distinct(["a", "b", "a"])
        ('a', 'b', 'a #2')
    """
    found: list[str] = []
    for name in names:
        count, own = 2, name
        while own in found:
            own, count = f"{name} #{count}", count + 1
        found.append(own)
    return tuple(found)


def _refuse_unknown(
    raw: Mapping[str, Any], known: Sequence[str], what: str, place: KeyPlace
) -> None:
    for key in raw:
        if key not in known:
            hint = nearest_of(str(key), known)
            (place / key).refuse(f"unknown key of {what}", f"{hint}known here: {', '.join(known)}")


def _number(raw: Mapping[str, Any], key: str, place: KeyPlace) -> float:
    if key not in raw:
        place.refuse(f"a range without {key}", f"add `{key}: {0 if key == 'min' else 1}`")
    found = None if isinstance(raw[key], bool) else number_of(raw[key])
    if found is None:
        (place / key).refuse(f"expected a finite number, found {brief(raw[key])}")
    return found


def _told(option: object) -> tuple[str, object]:
    """What two equal choices have in common: the number, however it is written, else the value."""
    number = None if isinstance(option, bool) else number_of(option)
    return ("", number) if number is not None else (type(option).__name__, option)


def _label(option: object) -> str:
    """A choice in a few characters."""
    if isinstance(option, dict) and {"min", "max"} <= option.keys():
        return f"{option['min']} to {option['max']}"
    text = json.dumps(option, default=str).replace('"', "")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _method_label(option: object) -> str:
    """A method, or what a mapping of recipe keys is called."""
    if not isinstance(option, dict):
        return str(option)
    return str(option.get("merge_method", _label(option)))
