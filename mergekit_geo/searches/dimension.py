"""One dimension of a space: a number in a range, or one of several choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mergekit_geo.searches.trial import Values


class Asker(Protocol):
    """What says which values to try, such as a trial of Optuna's."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number between two."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """One of several choices."""


@dataclass(frozen=True)
class Dimension:
    """A number in a range, or one of several choices.

    Attributes:
        name: Of its own, such as `weight of prose (mlp)`.
        parameter: Its key in the recipe.
        default: Where a search starts.
        low: The least number.
        high: The largest number.
        log: Whether the logarithm is searched evenly.
        labels: What the choices are called; empty for a number.
        when: Labels of other choices under which it is asked for: one of each. Empty is always.
        model: The model that it is a parameter of, as the recipe names it; empty for all.
        where: File and line of the recipe.
    """

    name: str
    parameter: str
    default: float | str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    labels: tuple[str, ...] = ()
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    model: str = ""
    where: str = ""

    @property
    def is_choice(self) -> bool:
        """Whether it is one of several choices."""
        return bool(self.labels)

    def is_asked(self, values: Values) -> bool:
        """Whether it has a value, where earlier dimensions have these."""
        return all(values.get(name) in labels for name, labels in self.when.items())

    def ask(self, asker: Asker) -> float | str:
        """A value of it."""
        if self.labels:
            return str(asker.suggest_categorical(self.name, self.labels))
        return float(asker.suggest_float(self.name, self.low, self.high, log=self.log))

    def __contains__(self, value: object) -> bool:
        if self.labels:
            return value in self.labels
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high  # type: ignore[operator]
