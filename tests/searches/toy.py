"""Spaces and losses that need no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mergekit_geo.searches.study import SearchStudy
from mergekit_geo.searches.trial import Outcome, Values

CENTRE = 0.7


@dataclass(frozen=True)
class Toy:
    """Some weights from 0 to 1, perhaps a density with a logarithm, perhaps a method."""

    weights: int = 2
    density: bool = False
    methods: tuple[str, ...] = ()

    @property
    def is_continuous(self) -> bool:
        return not self.methods

    def suggest(self, asker: Any) -> Values:
        values: dict[str, float | str] = {}
        for number in range(self.weights):
            values[f"w{number}"] = asker.suggest_float(f"w{number}", 0.0, 1.0, log=False)
        if self.density:
            values["density"] = asker.suggest_float("density", 0.01, 1.0, log=True)
        if self.methods:
            values["merge_method"] = asker.suggest_categorical("merge_method", self.methods)
        return values


def loss(values: Values) -> float:
    """Lowest, 0, where every weight is CENTRE."""
    return sum((float(at) - CENTRE) ** 2 for name, at in values.items() if name.startswith("w"))


def measured(number: int, values: Values) -> Outcome:
    return Outcome(number, (np.array([loss(values), 0.1]),), seconds=0.5)


def search(
    study: SearchStudy, space: Toy, trials: int, lost: Mapping[int, float] | None = None
) -> list[Values]:
    """Ask for trials, measure them, tell: the places, in order."""
    places = []
    for _ in range(trials):
        number, values, _ = study.ask(space)
        study.tell(number, loss(values), measured(number, values), (lost or {}).get(number, 0.0))
        places.append(values)
    return places
