"""A parameter of a merge method, declared once: for recipes, the shell, Python and `--help`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from keyword import iskeyword

from mergekit_geo.errors import ArgumentError
from mergekit_geo.files.sound_json import brief
from mergekit_geo.limits import Interval

Number = float | bool
Argument = Number | tuple[float, ...]
"""One for the whole method, or one per model."""

Given = Number | Sequence[float] | None
"""What a call says; None says nothing."""


@dataclass(frozen=True)
class SearchRange:
    """Numbers of a parameter that a search tries where no recipe says which.

    Attributes:
        low: The least.
        high: The largest.
        log: Whether the logarithm is searched evenly.
    """

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Parameter:
    """A number or a switch of a merge method.

    Attributes:
        name: Its key in a recipe.
        text: What it does.
        default: Its type is the parameter's: a number, or true or false.
        bounds: The numbers that it may be; any finite one if None.
        each: Whether every model can have its own.
        together: Whether a recipe gives it for all models or for none.
        stated: Whether a recipe must give it, as in mergekit; a call need not.
        spelling: Its name outside recipes, where that is another.
        searched: What a search tries where no recipe says which; None keeps the default.
        whole: Whether the number is a count.

    Example:
        >>> Parameter("density", "Share that is kept.", 1.0, each=True).of_call(0.5, 2)
        (0.5, 0.5)
    """

    name: str
    text: str
    default: Number
    bounds: Interval | None = None
    each: bool = False
    together: bool = False
    stated: bool = False
    spelling: str = ""
    searched: SearchRange | None = None
    whole: bool = False

    @property
    def keyword(self) -> str:
        """Name of the argument in Python."""
        return self.spelling or self.name + "_" * iskeyword(self.name)

    @property
    def flag(self) -> str:
        """Name of the option in the shell; a switch has `--no-...` too."""
        return f"--{(self.spelling or self.name).replace('_', '-')}"

    @property
    def is_switch(self) -> bool:
        """Whether it is true or false."""
        return isinstance(self.default, bool)

    def parse(self, text: str) -> Given:
        """The value that an option of the shell gives: a number, or several such as `.5,.2`.

        Raises:
            ArgumentError: One is not a number.

        Example:
            >>> Parameter("density", "", 1.0, each=True).parse(".5,.2")
            (0.5, 0.2)
        """
        try:
            found = tuple(float(part) for part in text.split(","))
        except ValueError as error:
            raise ArgumentError(
                f"{self.flag} must be a number{' or several' * self.each}, found {brief(text)}",
                remedy=f"write {self.flag} .5{' or .5,.3,.2' * self.each}",
            ) from error
        return found if len(found) > 1 else found[0]

    def of_call(self, given: Given, count: int) -> Argument:
        """The value for a merge of so many models, from what a call says.

        Raises:
            ArgumentError: It is of another type or number, or not finite.
        """
        if given is None:
            return self._for_all(self.default, count)
        if isinstance(given, bool) or self.is_switch:
            if not (isinstance(given, bool) and self.is_switch):
                expected = "true or false" if self.is_switch else "a number"
                raise ArgumentError(f"{self.keyword} must be {expected}, found {brief(given)}")
            return given
        if isinstance(given, int | float):
            return self._for_all(self._finite(given), count)
        return self._one_each(given, count)

    def _for_all(self, value: Number, count: int) -> Argument:
        return (float(value),) * count if self.each else value

    def _one_each(self, given: Sequence[float], count: int) -> Argument:
        if isinstance(given, str) or not self.each:
            raise ArgumentError(
                f"{self.keyword} is one number for the whole merge, found {brief(given)}",
                remedy=f"{self.flag} {self.default:g}",
            )
        if len(given) != count:
            raise ArgumentError(
                f"{len(given)} values of {self.keyword} for {count} models",
                remedy="give one value for all models, or one per model, the base left out",
            )
        return tuple(map(self._finite, given))

    def _finite(self, given: object) -> float:
        is_number = isinstance(given, int | float) and not isinstance(given, bool)
        if not is_number or not math.isfinite(given):  # type: ignore[arg-type]
            raise ArgumentError(f"{self.keyword} must be a finite number, found {brief(given)}")
        return float(given)  # type: ignore[arg-type]

    def checked(self, value: Argument) -> Argument:
        """A value of any kind as the rule takes it.

        Raises:
            ArgumentError: A number is out of bounds, or no whole number where it is a count.
        """
        if self.is_switch:
            return bool(value)
        numbers = tuple(map(float, value)) if isinstance(value, tuple) else (float(value),)
        for number in numbers if self.bounds else ():
            self.bounds.check(self.name, number)  # type: ignore[union-attr]
        for number in numbers if self.whole else ():
            self._check_whole(number)
        return numbers if self.each else numbers[0]

    def _check_whole(self, number: float) -> None:
        if not number.is_integer():
            raise ArgumentError(
                f"{self.name} must be a whole number, found {number:g}",
                remedy=f"{self.flag} {math.ceil(number)}",
            )


WEIGHT = Parameter(
    "weight", "Weights w_i of the models.", 1.0, each=True, together=True, spelling="weights",
    searched=SearchRange(0, 1),
)  # fmt: skip
STATED_WEIGHT = replace(WEIGHT, stated=True)
NORMALIZE = Parameter("normalize", "Divide the weights by their sum.", default=True)
SCALE_OF_SUM = Parameter("lambda", "Scaling factor lambda of the merged task vector.", 1.0)
