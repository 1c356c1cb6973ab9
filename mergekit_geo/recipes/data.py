"""What the models of a recipe are measured on, and what is trained on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from mergekit_geo.config.data import EvalData, source_of
from mergekit_geo.recipes.schema import Recipe

if TYPE_CHECKING:
    from mergekit_geo.config.data import Data


def spoken_over(recipe: Recipe, data: Data, meant: Collection[str], seed: int | None) -> Recipe:
    """The recipe, with what the call says in the place of what it says itself.

    Args:
        recipe: As it says itself.
        data: Of the call.
        meant: Settings of `data` that go before the recipe's even where they are the defaults.
        seed: Of the call; None leaves the recipe's.

    Example:
        >>> recipe = Recipe(merge_method="linear", seed=3)
        >>> [spoken_over(recipe, None, (), seed).seed for seed in (0, None)]
        [0, 3]
    """
    update: dict[str, Any] = {} if seed is None else {"seed": seed}
    if recipe.objective is not None and source_of(data).as_settings is not None:
        said = {n: getattr(data, n) for n in meant if n in type(recipe.objective).model_fields}
        update["objective"] = recipe.objective.model_copy(update=said)
    found: Recipe = recipe.model_copy(update=update)
    return found


def held_out(recipe: Recipe, data: Data) -> Data:
    """The call's data, or the recipe's objective where the call names none."""
    source = source_of(data)
    if source.is_default:
        return read_as(recipe, data)
    return data and source.replaced(seed=source.seed or recipe.seed or 0)


def read_as(recipe: Recipe, data: Data) -> EvalData:
    """How training data is read: as the objective is, whatever is measured in its place."""
    call = source_of(data).as_settings or EvalData()
    seed = call.seed or recipe.seed or 0
    if recipe.objective is None:
        return replace(call, seed=seed)
    said = recipe.objective.model_dump(exclude={"data"})
    given = {name: value for name, value in asdict(call).items() if name in said}
    usual = asdict(EvalData())
    said |= {name: value for name, value in given.items() if value != usual[name]}
    return EvalData(recipe.objective.data, seed=seed, **said)


def fitted_to(recipe: Recipe, data: Data) -> EvalData | None:
    """What a path is fitted to, where the recipe says."""
    source = recipe.along and recipe.along.train_data
    if not source:
        return None
    how = read_as(recipe, data)
    config = how.config if source == how.source else None
    return replace(how.training(source), config=config)
