"""Walks through a recipe and finds what it leaves to a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from mergekit_geo.recipes.schema import Recipe
from mergekit_geo.recipes.searched import CHOICES, MARKS, RANGE, is_searched
from mergekit_geo.recipes.written import Written
from mergekit_geo.searches.names import name_of, named_in, short_names, slice_name
from mergekit_geo.searches.ranges import Choices, KeyPlace, NumberRange
from mergekit_geo.searches.template import Fork, Slot

METHOD = "merge_method"

WHY_NOT = {
    "filter": "part of a tensor's name is not searched",
    "model": "a model's name is not searched",
    "base_model": "a model's name is not searched",
    "layer_range": "layers are whole numbers, and are not searched",
    "seed": "a whole number is not searched",
}
"""Why values of these keys are no dimension; of others it is said where ranges may stand."""

OF_CHOICES = (METHOD, "base_model", "models", "slices", "modules", "parameters")
"""Keys of a recipe that can differ between choices of its method: all make points of one space."""


@dataclass(frozen=True)
class RecipeGap:
    """What a recipe leaves to a search at one place.

    Attributes:
        name: Of its own.
        asks: The range, or the choices.
        place: Where it stands.
        parameter: Its key in the recipe.
        model: The model that it is a parameter of; empty for all.
        under: Labels of the choices that it stands in, by their names.
    """

    name: str
    asks: NumberRange | Choices
    place: KeyPlace
    parameter: str
    model: str = ""
    under: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Surroundings:
    """What a value stands in.

    Attributes:
        model: The model, as the recipe names it.
        words: What is said of it after the name of a parameter.
        before: What is said before.
        under: As `RecipeGap` has it.
    """

    model: str = ""
    words: str = ""
    before: str = ""
    under: tuple[tuple[str, str], ...] = ()

    def beside(self, word: str) -> Surroundings:
        """Values that stand in something more."""
        return replace(self, words=f"{word}{self.words}")

    def inside(self, name: str, label: str) -> Surroundings:
        """Values that stand in one of several choices."""
        return replace(self, under=(*self.under, (name, label)))


class Walk:
    """Finds the gaps of a recipe.

    Attributes:
        gaps: Those found, choices before what stands in them.
        template: The recipe with them.
    """

    def __init__(self, text: Written) -> None:
        self.gaps: list[RecipeGap] = []
        self._names: set[str] = set()
        self._short = short_names(named_in(text.raw))
        top = KeyPlace(text)
        raw = dict(text.raw)
        first = {METHOD: self._method(raw[METHOD], top / METHOD)} if METHOD in raw else {}
        self.template: dict[str, Any] = {
            **raw,
            **first,
            **self._mapping({k: v for k, v in raw.items() if k != METHOD}, top, Surroundings()),
        }

    def _method(self, raw: Any, place: KeyPlace) -> Any:
        """The method, or the choices of it."""
        if not is_searched(raw):
            return raw
        if "choices" not in raw:
            place.refuse("a method is no number", "write `{choices: [ties, dare_ties]}`")
        found = Choices.of(raw, place, of_method=True)
        name = self._add(METHOD, found, place, Surroundings(), METHOD)
        branches = {}
        for i, (label, option) in enumerate(zip(found.labels, found.options, strict=True)):
            inner = place / "choices" / i
            around = Surroundings(before=f"{label}: ").inside(name, label)
            branches[label] = self._branch(option, inner, around)
        return Fork(name, branches)

    def _branch(self, option: Any, place: KeyPlace, around: Surroundings) -> dict[str, Any]:
        if isinstance(option, str):
            return {METHOD: option}
        if not isinstance(option, dict) or not isinstance(option.get(METHOD), str):
            place.refuse(
                "a choice is the name of a method, or keys of a recipe with one",
                "write `{merge_method: ties, parameters: {density: 0.5}}`",
            )
        for key in option:
            if key in Recipe.model_fields and key not in OF_CHOICES:
                (place / key).refuse(
                    f"{key} is one for all choices", f"write `{key}: ...` at the top of the recipe"
                )
        return self._mapping(option, place, around)

    def _mapping(
        self, raw: Mapping[str, Any], place: KeyPlace, around: Surroundings
    ) -> dict[str, Any]:
        if "model" in raw and not is_searched(raw["model"]):
            around = self._of_model(raw["model"], around)
        return {key: self._below(key, value, place / key, around) for key, value in raw.items()}

    def _of_model(self, raw: Any, around: Surroundings) -> Surroundings:
        name = name_of(raw)
        short = self._short.get(name, name)
        return replace(around, model=name, words=f" of {short}{around.words}")

    def _below(self, key: str, value: Any, place: KeyPlace, around: Surroundings) -> Any:
        if key == "parameters" and isinstance(value, dict):
            return {k: self._value(v, place / k, around, (k, "")) for k, v in value.items()}
        if key == "modules" and isinstance(value, dict):
            return {
                k: self._other(v, place / k, around.beside(f" in {k}" * (k != "default")))
                for k, v in value.items()
            }
        if key == "slices" and isinstance(value, list):
            return [
                self._other(v, place / i, around.beside(f" in {slice_name(v, i)}"))
                for i, v in enumerate(value)
            ]
        return self._other(value, place, around)

    def _other(self, value: Any, place: KeyPlace, around: Surroundings) -> Any:
        """What is no parameter: it may hold some, and no gap of its own."""
        if _is_stray(value):
            key = next((str(key) for key in reversed(place.loc) if not isinstance(key, int)), "")
            why = WHY_NOT.get(key, f"{key} is not searched")
            place.refuse(why, "ranges and choices stand under parameters, choices at merge_method")
        if isinstance(value, list):
            return [self._other(item, place / i, around) for i, item in enumerate(value)]
        return self._mapping(value, place, around) if isinstance(value, dict) else value

    def _value(self, raw: Any, place: KeyPlace, around: Surroundings, key: tuple[str, str]) -> Any:
        """The value of a parameter: a number, a gradient, or filters.

        Args:
            raw: As written.
            place: Where it stands.
            around: What it stands in.
            key: The parameter, and which part of its value this is.
        """
        if is_searched(raw):
            return self._gap(raw, place, around, key)
        parameter, part = key
        if isinstance(raw, dict):
            return self._entry(raw, place, around, key)
        if not isinstance(raw, list):
            return raw
        is_filters = any(isinstance(item, dict) and not is_searched(item) for item in raw)
        found = []
        for i, item in enumerate(raw):
            own = (
                part
                if isinstance(item, dict) and not is_searched(item)
                else (f"{part} (others)" if is_filters else f"{part}[{i}]")
            )
            found.append(self._value(item, place / i, around, (parameter, own)))
        return found

    def _entry(
        self, raw: dict[str, Any], place: KeyPlace, around: Surroundings, key: tuple[str, str]
    ) -> Any:
        """A line of a list of filters."""
        if is_searched(raw.get("filter")):
            self._other(raw["filter"], place / "filter", around)
        name = raw.get("filter")
        said = "others" if name in (None, "*") else str(name)
        own = (key[0], f"{key[1]} ({said})")
        return {
            k: self._value(v, place / k, around, own) if k == "value" else v for k, v in raw.items()
        }

    def _gap(
        self, raw: Any, place: KeyPlace, around: Surroundings, key: tuple[str, str]
    ) -> Slot | Fork:
        parameter, part = key
        name = f"{around.before}{parameter}{around.words}{part}"
        if "choices" not in raw:
            return Slot(self._add(name, NumberRange.of(raw, place), place, around, parameter))
        found = Choices.of(raw, place)
        name = self._add(name, found, place, around, parameter)
        branches = {
            label: self._value(
                option, place / "choices" / i, around.inside(name, label),
                (parameter, f"{part}: {label}"),
            )
            for i, (label, option) in enumerate(zip(found.labels, found.options, strict=True))
        }  # fmt: skip
        return Fork(name, branches)

    def _add(
        self,
        name: str,
        asks: NumberRange | Choices,
        place: KeyPlace,
        around: Surroundings,
        parameter: str,
    ) -> str:
        names = (name if i == 1 else f"{name} #{i}" for i in count(1))
        own = next(one for one in names if one not in self._names)
        self._names.add(own)
        self.gaps.append(RecipeGap(own, asks, place, parameter, around.model, around.under))
        return own


def _is_stray(value: Any) -> bool:
    """Whether a value that is no parameter was meant to be searched."""
    return (
        isinstance(value, dict)
        and any(key in value for key in MARKS)
        and all(key in {*RANGE, *CHOICES} for key in value)
        and not any(isinstance(one, dict) for one in value.values())
    )
