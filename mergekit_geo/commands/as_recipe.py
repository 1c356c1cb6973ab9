"""A merge as a recipe that `geo-merge run` takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mergekit_geo.commands.request import Request
from mergekit_geo.config.data import EvalData, source_of
from mergekit_geo.config.model_data import ModelData
from mergekit_geo.config.reshape import BASE, ReshapeConfig, TokenSource
from mergekit_geo.config.selection import PAIR
from mergekit_geo.merging.method import BaseUse
from mergekit_geo.merging.methods import METHODS
from mergekit_geo.specs.merge import MergeSpec

WEIGHTED = ("linear", "karcher")


def as_recipe(
    request: Request, names: Sequence[str], method: str, weights: Sequence[float]
) -> dict[str, Any] | list[dict[str, Any]] | None:
    """The recipe of a merge; None where none says it, as for a point of a fitted path.

    It is the last of several where others make models for it.

    What loss chose is said by the weights that came of it, so a recipe needs no data.

    Args:
        request: The merge.
        names: References to its models.
        method: The rule that was applied.
        weights: As applied, one a model.
    """
    said = request.recipe
    if said is None:
        return None
    found = dict(said) or (
        _of_method(request.asked, names)
        if isinstance(request.asked, MergeSpec) and request.asked.sweep is None
        else _of_point(names, method, weights)
    )
    dtype, fitting = request.asked.output.dtype, request.fitting
    unsaid = fitting.truncate_embeddings or fitting.part or fitting.allow_missing_parts
    if not found or unsaid:  # no key of a recipe says these
        return None
    if fitting.is_by_token and not said:
        found |= {"tokenizer": tokenizer_keys(fitting)}
    whole = {**found, "dtype": dtype} if dtype else found
    return [*map(dict, request.before), whole] if request.before else whole


def tokenizer_keys(fitting: ReshapeConfig) -> dict[str, Any]:
    """How models are made to fit, as a recipe has it under `tokenizer`.

    Example:
        >>> tokenizer_keys(ReshapeConfig("union", pad_to_multiple_of=64))
        {'source': 'union', 'pad_to_multiple_of': 64}
    """
    found = {
        "source": fitting.tokenizer_source or BASE,
        "tokens": {token: _token(one) for token, one in (fitting.tokens or {}).items()},
        "pad_to_multiple_of": fitting.pad_to_multiple_of,
        "keep_padding": fitting.keep_padding,
    }
    return {key: value for key, value in found.items() if value}


def _token(one: TokenSource) -> dict[str, Any]:
    forced = {"force": True} if one.force else {}
    if not one.is_stated:
        return {}
    if one.zero:
        return {"source": {"kind": "zero"}, **forced}
    if one.token is None and one.token_id is None:
        return {"source": one.model, **forced}
    row = {"token": one.token} if one.token_id is None else {"token_id": one.token_id}
    return {"source": {"kind": "model_token", "model": one.model, **row}, **forced}


def _of_point(names: Sequence[str], method: str, weights: Sequence[float]) -> dict[str, Any]:
    if len(weights) != len(names):
        return {}
    if method == "slerp" and len(names) == PAIR:
        models = [_model(name) for name in names]
        ends = {"merge_method": method, "base_model": names[0], "models": models}
        return {**ends, "parameters": {"t": weights[1]}}
    if method not in WEIGHTED:
        return {}
    models = [_model(name, weight=w) for name, w in zip(names, weights, strict=True)]
    as_they_are = {"parameters": {"normalize": False}} if method == "linear" else {}
    return {"merge_method": method, "models": models, **as_they_are}


def _of_method(asked: MergeSpec, names: Sequence[str]) -> dict[str, Any]:
    """A method of the table, with what was given and what a recipe must give."""
    method, given = METHODS[asked.method], asked.given_parameters
    based = asked.base is not None or method.base is BaseUse.END
    members = names[1:] if based and method.base is not BaseUse.END else names
    said = {
        one: given.get(one.keyword, one.default)
        for one in method.parameters
        if one.stated or one.keyword in given
    }
    models = [
        _model(name, **{one.name: _one(value, i) for one, value in said.items() if one.each})
        for i, name in enumerate(members)
    ]
    shared = {one.name: value for one, value in said.items() if not one.each}
    seed = source_of(asked.data).seed
    return {
        "merge_method": asked.method,
        **({"base_model": names[0]} if based else {}),
        "models": models,
        **({"parameters": shared} if shared else {}),
        **_training(asked, names),
        **({"seed": seed} if seed else {}),
    }


def _training(asked: MergeSpec, names: Sequence[str]) -> dict[str, Any]:
    """The training data of a method that needs it, where a recipe can say it."""
    data = source_of(asked.train_data).spoken if METHODS[asked.method].needs else None
    if isinstance(data, ModelData):
        found = zip(names, data.of(names), strict=True)
        return {"train_data": {name: one.origin for name, source in found
                               if (one := source.as_settings) is not None}}  # fmt: skip
    return {"train_data": data.origin} if isinstance(data, EvalData) else {}


def _model(name: str, **parameters: Any) -> dict[str, Any]:
    return {"model": name, **({"parameters": parameters} if parameters else {})}


def _one(value: Any, place: int) -> Any:
    return value[place] if isinstance(value, list | tuple) else value
