"""A merge method as one declaration: what it takes, its source, and the rule that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.parameter import Argument, Parameter


class BaseUse(Enum):
    """Whether a method takes a base model."""

    NONE = "no base"
    OPTIONAL = "a base if given"
    REQUIRED = "a base"
    END = "two models"
    """The base is one of the two: the end at t = 0."""


@dataclass(frozen=True)
class Method:
    """A merge method.

    Attributes:
        name: `merge_method` of a recipe, `--method` of a command.
        formula: Each tensor of the output, in one line: a_i are the models, b is the base,
            v_i = a_i - b, w_i the weights.
        source: Author and year.
        rule: Makes the rule over the base, if there is one, and the models. It gets the parameters
            by their keywords, and `count` (of models, the base left out), `has_base` and `seed`.
        parameters: What it takes.
        base: Whether it takes a base model.
        least: Fewest models beside the base.
        most: Most models beside the base.
        chosen_by: The command that chooses the point by loss: then the rule is where that starts.
        ignores_base: Whether a recipe may name a base that has no part in it.
        accepted: Parameters of mergekit's that a recipe may give and that change nothing here.
        needs: What its rule needs of training data of each model, such as `examples with labels`;
            empty where it needs none. The rule is a `ByData`.
    """

    name: str
    formula: str
    source: str
    rule: Callable[..., Rule]
    parameters: tuple[Parameter, ...] = ()
    base: BaseUse = BaseUse.NONE
    least: int = 1
    most: int | None = None
    chosen_by: str = ""
    ignores_base: bool = False
    accepted: tuple[str, ...] = ()
    needs: str = ""

    @property
    def by_loss(self) -> bool:
        """Whether the point is chosen by loss."""
        return bool(self.chosen_by)

    @property
    def shared(self) -> dict[str, Parameter]:
        """Parameters that have one value for the whole merge, by their keys in a recipe."""
        return {each.name: each for each in self.parameters if not each.each}

    @property
    def each(self) -> dict[str, Parameter]:
        """Parameters that can have one value per model, by their keys in a recipe."""
        return {each.name: each for each in self.parameters if each.each}

    def make(
        self, values: Mapping[str, Argument], count: int, has_base: bool, seed: int = 0
    ) -> Rule:
        """The rule for these values.

        Args:
            values: Of every parameter, by its key in a recipe.
            count: Models beside the base.
            has_base: Whether there is a base.
            seed: Of random masks.

        Raises:
            ArgumentError: A value is out of bounds, or values contradict each other.
        """
        found = {each.keyword: each.checked(values[each.name]) for each in self.parameters}
        return self.rule(count=count, has_base=has_base, seed=seed, **found)

    def check_count(self, count: int) -> None:
        """Refuse too few and too many models.

        Args:
            count: Models beside the base.

        Raises:
            ArgumentError: With the methods that take several.
        """
        beside = " beside the base" if self.base in {BaseUse.REQUIRED, BaseUse.END} else ""
        if count < self.least:
            raise ArgumentError(
                f"{self.name} needs {self.least} or more models{beside}, found {count}"
            )
        if self.most is not None and count > self.most:
            raise ArgumentError(
                f"{self.name} takes {self.most} model{'s' * (self.most > 1)}{beside}, "
                f"found {count}",
                remedy="several models: linear, karcher or multislerp",
            )
