"""What the models of a recipe are measured on, and what is trained on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from mergekit_geo.config.data import NO_DATA, EvalData, source_of
from mergekit_geo.config.model_data import ModelData
from mergekit_geo.config.sets import EvalSets
from mergekit_geo.config.sets_file import SetKeys, sets_in
from mergekit_geo.recipes.schema import ObjectiveKeys, Recipe

if TYPE_CHECKING:
    from mergekit_geo.config.data import Data

READ = set(ObjectiveKeys.model_fields) & set(SetKeys.model_fields) - {"data"}
"""Options of data, of one set or of several."""


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
    objective, settings = recipe.objective, source_of(data).as_settings
    if objective is not None and settings is not None:
        said = {name: getattr(settings, name) for name in READ.intersection(meant)}
        update["objective"] = _said_by(objective, said)
    found: Recipe = recipe.model_copy(update=update)
    return found


def _said_by(objective: ObjectiveKeys, said: Mapping[str, Any]) -> ObjectiveKeys:
    """The objective with other options, for each of its sets too."""
    sets = objective.sets and [_set_said_by(one, said) for one in objective.sets]
    found: ObjectiveKeys = objective.model_copy(update={**said, "sets": sets})
    return found


def _set_said_by(one: SetKeys, said: Mapping[str, Any]) -> SetKeys:
    found: SetKeys = one.model_copy(
        update={name: value for name, value in said.items() if getattr(one, name) is not None}
    )
    return found


def held_out(recipe: Recipe, data: Data) -> Data:
    """The call's data, or the recipe's objective where the call names none."""
    source = source_of(data)
    if not source.is_default:
        return data and source.replaced(seed=source.seed or recipe.seed or 0)
    return _sets(recipe, data) if recipe.objective and recipe.objective.sets else _one(recipe, data)


def read_as(recipe: Recipe, data: Data) -> EvalData:
    """How training data is read: as the objective is, whatever is measured in its place.

    Of an objective of several sets it is read as the first of them.
    """
    if recipe.objective is None or recipe.objective.sets is None:
        return _one(recipe, data)
    first = _sets(recipe, data).as_settings
    assert first is not None
    return first


def _one(recipe: Recipe, data: Data) -> EvalData:
    """The settings of the objective, of sets those that they share; the call's go before."""
    call = source_of(data).as_settings or EvalData()
    seed = call.seed or recipe.seed or 0
    if recipe.objective is None:
        return replace(call, seed=seed)
    said = {**recipe.objective.model_dump(include=READ), **_unusual(call)}
    return EvalData(recipe.objective.data or "", seed=seed, **said)


def _sets(recipe: Recipe, data: Data) -> EvalSets:
    """The sets of the objective; what the call says goes before what each says."""
    assert recipe.objective is not None
    call = _unusual(source_of(data).as_settings or EvalData())
    shared = _one(recipe, data)
    found = sets_in(recipe.objective.sets or [], shared).replaced(**call)
    alike = source_of({one.name: one.data for one in found.sets}).spoken
    said = alike.said if isinstance(alike, EvalSets) else EvalData(seed=shared.seed, **call)
    return replace(found, said=said)


def _unusual(call: EvalData) -> dict[str, Any]:
    """Settings of a call that are not the defaults."""
    usual = asdict(EvalData())
    return {name: v for name, v in asdict(call).items() if name in READ and v != usual[name]}


def trained_on(recipe: Recipe, data: Data) -> Data:
    """Training data of the models, where the recipe says it: of all, by model, or none.

    Args:
        recipe: With the data under `train_data`, of all models or of each.
        data: Of the call, as which it is read.
    """
    said = recipe.train_data
    by_model = dict(said) if isinstance(said, dict) else {}
    for entry in recipe.models or []:
        if entry.train_data is not None:
            by_model[entry.model] = entry.train_data
    how = read_as(recipe, data)
    shared = _training(how, said) if isinstance(said, str) else NO_DATA
    if not by_model:
        return None if shared.is_nothing else shared
    own = tuple((name, _training(how, source)) for name, source in by_model.items())
    return ModelData(own, shared)


def _training(how: EvalData, source: str) -> EvalData:
    """Training data that is read as the objective is."""
    config = how.config if source == how.source else None
    return replace(how.training(source), config=config)


def fitted_to(recipe: Recipe, data: Data) -> EvalData | None:
    """What a path is fitted to, where the recipe says."""
    source = recipe.along and recipe.along.train_data
    if not source:
        return None
    return _training(read_as(recipe, data), source)
