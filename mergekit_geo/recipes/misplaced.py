"""Keys that mergekit knows, where it does not look at them: it ignores them, and so do we.

They are told with their place and where they belong, or refused under `--strict`. Keys that nothing
knows are left for the schema to refuse.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from mergekit_geo.merging.method import Method
from mergekit_geo.merging.methods import METHODS
from mergekit_geo.recipes.inputs import EVERYWHERE, known_parameters
from mergekit_geo.recipes.schema import ListedKeys, ModelKeys, ModuleKeys, Recipe, Slice, SourceKeys
from mergekit_geo.recipes.tokenizer import Tokenizer
from mergekit_geo.recipes.written import KeyPath

PARTS: dict[str, type[BaseModel]] = {
    "models": ListedKeys, "slices": Slice, "sources": SourceKeys, "modules": ModuleKeys,
    "tokenizer": Tokenizer,
}  # fmt: skip
"""Schema of the mappings below each key of mergekit's."""

TOP, IN_MODEL = "at the top level of the recipe", "in the mapping of a model"
EVOLUTION = "mergekit-evolve reads it in its genome, and a merge nowhere"
UNREAD = {
    "residual_weight": "mergekit declares it and never reads it", "smooth": EVOLUTION,
    "allow_negative_weights": EVOLUTION,
}  # fmt: skip
"""Keys that have no effect in mergekit wherever they stand."""

NEAR = 0.9
"""A key this like one that is missing, such as `model` and `models`, is that one misspelt."""

HOMES = {
    **dict.fromkeys(
        ["merge_method", "base_model", "dtype", "out_dtype", "tokenizer_source", "chat_template",
         "models", "slices", "modules", "tokenizer", "name"], TOP),
    "sources": "under slices", "layer_range": "under a source of slices",
    "model": "under an entry of models",
    "parameters": "in the recipe, a module, a slice or a model",
    "lora": f"{IN_MODEL}: `model: {{model: ..., lora: ...}}`",
    "override_architecture": f"{IN_MODEL}: `model: {{model: ..., override_architecture: ...}}`",
    "revision": "after the model's name: `model: org/name@revision`",
    "source": "under tokenizer", "tokens": "under tokenizer",
    "pad_to_multiple_of": "under tokenizer",
    "random_seed": "as `seed` at the top level of the recipe, or as --seed of the command",
}  # fmt: skip
"""Where mergekit looks for its keys."""


@dataclass(frozen=True)
class Misplaced:
    """A key that has no effect.

    Attributes:
        loc: Keys that lead to it.
        why: What is wrong with its place.
        remedy: What to do.
    """

    loc: KeyPath
    why: str
    remedy: str


def swept(raw: dict[str, Any]) -> tuple[dict[str, Any], list[Misplaced]]:
    """A recipe without the keys that have no effect where they stand, and these.

    Example:
        >>> said = {"merge_method": "ties", "models": [{"model": "a", "density": 0.5}]}
        >>> recipe, (found,) = swept(said)
        >>> recipe["models"], found.loc
        ([{'model': 'a'}], ('models', 0, 'density'))
    """
    name = raw.get("merge_method")
    sweep = _Sweep(METHODS.get(name) if isinstance(name, str) else None)
    return sweep.mapping(raw, Recipe, ()), sweep.found


class _Sweep:
    """Goes through a recipe as the schema has it."""

    def __init__(self, method: Method | None) -> None:
        self.method = method
        self.found: list[Misplaced] = []

    def mapping(self, raw: dict[str, Any], part: type[BaseModel], loc: KeyPath) -> dict[str, Any]:
        """A mapping of the recipe without its misplaced keys."""
        kept = {}
        for key, value in raw.items():
            if key in part.model_fields:
                kept[key] = self._below(key, value, part, (*loc, key))
            elif wrong := _beside(key, part, raw):
                self.found.append(Misplaced((*loc, key), *wrong))
            else:
                kept[key] = value
        return kept

    def _below(self, key: str, value: Any, part: type[BaseModel], loc: KeyPath) -> Any:
        if key == "parameters" and isinstance(value, dict):
            of_model = issubclass(part, ModelKeys)
            return {name: said for name, said in value.items() if self._counts(name, loc, of_model)}
        if key == "modules" and isinstance(value, dict):
            return {name: self._part(one, ModuleKeys, (*loc, name)) for name, one in value.items()}
        return self._part(value, PARTS[key], loc) if key in PARTS else value

    def _part(self, value: Any, part: type[BaseModel], loc: KeyPath) -> Any:
        if isinstance(value, list):
            return [self._part(one, part, (*loc, i)) for i, one in enumerate(value)]
        return self.mapping(value, part, loc) if isinstance(value, dict) else value

    def _counts(self, key: str, loc: KeyPath, of_model: bool) -> bool:
        """Whether a parameter has an effect, or is one that nothing knows."""
        if wrong := _idle(key, self.method, of_model=of_model):
            self.found.append(Misplaced((*loc, key), *wrong))
        return wrong is None


def _idle(key: str, method: Method | None, *, of_model: bool) -> tuple[str, str] | None:
    """Why a known parameter has no effect, and what to do; None where it has."""
    if key in UNREAD:
        return UNREAD[key], "leave it out"
    if key not in all_parameters():
        return (f"{key} is no parameter", f"write it {HOMES[key]}") if key in HOMES else None
    if method is None or key in EVERYWHERE:
        return None
    whole = key in {*method.shared, *method.accepted}
    if of_model and whole:
        return (
            f"{key} is one for the whole of {method.name}, not for each model",
            f"write it once, under the recipe's own parameters: `{key}: ...`",
        )
    if whole or key in method.each or (key == "weight" and not of_model):
        return None
    return f"{key} has no part in {method.name}", "leave it out"


def _beside(key: str, part: type[BaseModel], raw: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why a key that is known elsewhere has no effect in this part, and what to do."""
    if key in UNREAD:
        return UNREAD[key], "leave it out"
    if key in all_parameters():
        return f"{key} stands beside parameters", f"write `parameters: {{{key}: ...}}`"
    missing = [name for name in part.model_fields if name not in raw]
    if key not in HOMES or difflib.get_close_matches(key, missing, 1, NEAR):
        return None
    return f"{key} has no meaning here", f"write it {HOMES[key]}"


def all_parameters() -> set[str]:
    """Parameters of any method, with those that mergekit alone has."""
    accepted = {key for method in METHODS.values() for key in method.accepted}
    return {*known_parameters(), *EVERYWHERE, *accepted}
