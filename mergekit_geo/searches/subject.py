"""What a call searches: the ranges of its recipe, or those of methods over the models it names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.errors import ArgumentError
from mergekit_geo.searches.default_space import default_space
from mergekit_geo.searches.space import Space

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.specs.search import SearchSpec

NAME = "search"
"""Name of a study that has no recipe's file."""


def space_of(asked: SearchSpec) -> Space:
    """The space that a call searches.

    Raises:
        RecipeError: The recipe is not valid, or has no ranges.
        ArgumentError: A method that there is not, or that takes no such models.
    """
    if asked.is_recipe:
        _refuse_beside_recipe(asked)
        return Space.read(asked.source)
    names = [_name(one, i) for i, one in enumerate(asked.named)]
    base = None if asked.base is None else _name(asked.base, -1)
    return Space.of(default_space(names, base, asked.method_names))


def known_models(asked: SearchSpec) -> Mapping[str, Model]:
    """What names of models in the recipe stand for."""
    if asked.is_recipe:
        return asked.models or {}
    found = {_name(one, i): one for i, one in enumerate(asked.named)}
    return found if asked.base is None else {**found, _name(asked.base, -1): asked.base}


def study_name(asked: SearchSpec) -> str:
    """The name of the study, where the call gives none."""
    if asked.study:
        return asked.study
    is_file = isinstance(asked.source, str | Path) and "\n" not in str(asked.source)
    return Path(asked.source).stem if asked.is_recipe and is_file else NAME


def _refuse_beside_recipe(asked: SearchSpec) -> None:
    given = {"--base": asked.base is not None, "--methods": bool(asked.methods)}
    for flag, stands in given.items():
        if stands:
            raise ArgumentError(
                f"{flag} is of a search without a recipe",
                remedy="write base_model or merge_method in the recipe, or name models",
            )


def _name(model: Model, place: int) -> str:
    """What a model is called in the recipe: itself, or by its place where it is in memory."""
    if isinstance(model, str | Path):
        return str(model)
    return "base" if place < 0 else f"model{place + 1}"
