"""What a search asks for: the ranges and choices of a recipe, and the recipes that they stand for.

>>> models = [{"model": "a"}, {"model": "b"}]
>>> recipe = {"merge_method": "slerp", "base_model": "a", "models": models,
...           "parameters": {"t": {"min": 0, "max": 1}}}
>>> space = Space.of(recipe)
>>> space.defaults, space.resolved({"t": 0.25})["parameters"]
({'t': 0.5}, {'t': 0.25})
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mergekit_geo.errors import RecipeError
from mergekit_geo.recipes.written import Written, written
from mergekit_geo.searches.dimension import Asker, Dimension
from mergekit_geo.searches.gaps import METHOD, Walk
from mergekit_geo.searches.live import Variant, dimensions_of, recipe_of
from mergekit_geo.searches.ranges import Choices
from mergekit_geo.searches.template import plain
from mergekit_geo.searches.trial import Values


@dataclass(frozen=True)
class Space:
    """The recipes that a recipe with ranges and choices stands for.

    Attributes:
        text: The recipe as written.
        dimensions: What is asked for: choices before what hangs on them.
        warnings: Keys that change nothing, whatever is chosen.
        template: The recipe with gaps.
    """

    text: Written
    dimensions: tuple[Dimension, ...]
    warnings: tuple[str, ...] = ()
    template: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, source: str | Path | Mapping[str, Any]) -> Space:
        """The space of a recipe from a file, from YAML text, or from a mapping.

        Raises:
            RecipeError: No such file, no sound YAML, several recipes, or as `of`.
        """
        found = written(source)
        if len(found) > 1:
            raise RecipeError(
                f"a search takes one recipe, found {len(found)}",
                where=found[1].where(),
                remedy="make the models that the others stand for first, with geo-merge run",
            )
        return cls.of(found[0])

    @classmethod
    def of(cls, recipe: Written | Mapping[str, Any]) -> Space:
        """The space of a recipe.

        Args:
            recipe: As YAML has it; as its text, errors say the line.

        Raises:
            RecipeError: It has no range, a range that cannot be searched, or is no recipe.
        """
        text = recipe if isinstance(recipe, Written) else Written(dict(recipe))
        walk = Walk(text)
        if not walk.gaps:
            raise RecipeError(
                "no number of the recipe is a range: there is nothing to search",
                where=text.where(),
                remedy="write one as `weight: {min: 0, max: 1}`; geo-merge run merges as it is",
            )
        methods = next((gap.asks for gap in walk.gaps if gap.name == METHOD), None)
        labels = methods.labels if isinstance(methods, Choices) else (None,)
        variants = [Variant.of(label, text, walk.template, walk.gaps) for label in labels]
        dimensions = dimensions_of(walk.gaps, variants)
        told = [one.document.warnings for one in variants]
        warnings = tuple(line for line in told[0] if all(line in lines for lines in told))
        return cls(text, dimensions, warnings, walk.template)

    @property
    def is_continuous(self) -> bool:
        """Whether every dimension is a number."""
        return not any(one.is_choice for one in self.dimensions)

    @property
    def methods(self) -> tuple[str, ...]:
        """Labels of the choices of `merge_method`; none where there is one method."""
        return next((one.labels for one in self.dimensions if one.name == METHOD), ())

    def suggest(self, asker: Asker) -> dict[str, float | str]:
        """Values that something asks for, such as a trial of Optuna's."""
        found: dict[str, float | str] = {}
        for one in self.dimensions:
            if one.is_asked(found):
                found[one.name] = one.ask(asker)
        return found

    def with_defaults(self, values: Values) -> dict[str, float | str]:
        """These values, and the defaults of what else is asked for under them.

        Args:
            values: Of some dimensions; those that are not asked for are left out.
        """
        found: dict[str, float | str] = {}
        for one in self.dimensions:
            if one.is_asked(found):
                found[one.name] = values.get(one.name, one.default)
        return found

    @cached_property
    def defaults(self) -> Values:
        """Where a search starts.

        A range's `default`; else 1/k for the weights of k models, or the method's own default;
        else the middle. Of choices the first.
        """
        return self.with_defaults({})

    def contains(self, values: Values) -> bool:
        """Whether these are values of every dimension that is asked for under them."""
        asked = {one.name: one for one in self.dimensions if one.is_asked(values)}
        return values.keys() == asked.keys() and all(values[n] in one for n, one in asked.items())

    def resolved(self, values: Values) -> dict[str, Any]:
        """The plain recipe that values stand for.

        Args:
            values: Of every dimension that is asked for under them.
        """
        return recipe_of(self.template, values)

    @cached_property
    def description(self) -> dict[str, Any]:
        """The space in JSON, by which one study is told from another."""
        return {
            "dimensions": {one.name: _described(one) for one in self.dimensions},
            "recipe": plain(self.template),
        }


def _described(one: Dimension) -> dict[str, Any]:
    asks = (
        {"choices": list(one.labels)} if one.labels
        else {"min": one.low, "max": one.high, "log": one.log}
    )  # fmt: skip
    return {**asks, "when": {name: list(labels) for name, labels in one.when.items()}}
