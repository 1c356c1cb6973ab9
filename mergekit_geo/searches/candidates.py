"""From values to a point between models: the recipe that they give, on real checkpoints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mergekit_geo.errors import RecipeError
from mergekit_geo.evaluation.point import Point
from mergekit_geo.recipes.inputs import Inputs, inputs_of
from mergekit_geo.recipes.plan import Prepared, prepare
from mergekit_geo.recipes.reading import Document, read_document
from mergekit_geo.recipes.resolve import Resolved, over_all, resolve
from mergekit_geo.recipes.slices import ranged
from mergekit_geo.searches.gaps import METHOD
from mergekit_geo.searches.space import Space

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.config.reshape import ReshapeConfig
    from mergekit_geo.searches.trial import Values


@dataclass(frozen=True)
class Candidates:
    """All merges of a space, as points between the models of all of them.

    Attributes:
        space: What is searched.
        prepared: The default recipe, or of several methods the one with the most models.
        dtype: Of the output, as safetensors names it; the first model's if None.
    """

    space: Space
    prepared: Prepared
    dtype: str | None = None

    @classmethod
    def open(cls, space: Space, known: Mapping[str, Model], reshape: ReshapeConfig) -> Candidates:
        """Open the models of a space.

        Args:
            space: What is searched.
            known: What names of models stand for.
            reshape: How models are made to fit, where the call says.

        Raises:
            RecipeError: A recipe of the space is not valid, or is none of a point between models.
            CheckpointError: A model cannot be used.
        """
        every = [{METHOD: label} for label in space.methods] or [{}]
        recipes = [space.resolved(space.with_defaults(values)) for values in every]
        found = [prepare(one, known, reshape) for one in recipes]
        for one in found:
            _check_point(one)
        widest = max(found, key=lambda one: len(one.inputs.models))
        for one in found:
            _check_models(one, widest)
        return cls(space, widest)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models, as the recipes call them."""
        return self.prepared.inputs.models

    @property
    def members(self) -> tuple[int, ...]:
        """Positions of the models but for the base: those of the uniform soup."""
        base = self.prepared.inputs.base
        return tuple(i for i, name in enumerate(self.names) if name != base)

    def recipe(self, values: Values) -> dict[str, Any]:
        """The recipe of values, without ranges."""
        return self.space.resolved(values)

    def point(self, values: Values, title: str) -> Point:
        """The place of values in weight space.

        Args:
            values: A number for each range, a label for each choice.
            title: What it is called.

        Raises:
            RecipeError: They are no valid recipe.
        """
        recipe = self.recipe(values)
        _, _, found = self._read(recipe)
        key = hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode()).hexdigest()
        point = Point(found.rule, title, f"search {key}", rules=found.rules, takers=found.takers)
        return point.stored_as(self.dtype)

    def of(self, values: Values) -> Prepared:
        """The recipe of values with its models opened; its rules are over all of the space's."""
        document, inputs, found = self._read(self.recipe(values))
        places = [self.names.index(name) for name in inputs.models]
        return replace(
            self.prepared, document=document, inputs=inputs, resolved=found,
            opened=[self.prepared.opened[i] for i in places],
            models=[self.prepared.models[i] for i in places],
        )  # fmt: skip

    def _read(self, recipe: dict[str, Any]) -> tuple[Document, Inputs, Resolved]:
        """A plain recipe: as it is read, who takes part, and its rules over all models."""
        document = read_document(recipe)
        inputs = inputs_of(document.recipe)
        return document, inputs, self._over_all(inputs, self._resolved(inputs))

    def _resolved(self, inputs: Inputs) -> Resolved:
        checkpoints = [self._checkpoints[name] for name in inputs.models]
        if any(any(part.ranges) for part in inputs.parts) or inputs.further:
            inputs = ranged(inputs, checkpoints)
        return resolve(inputs, checkpoints[0])

    @cached_property
    def _checkpoints(self) -> Mapping[str, Any]:
        return dict(zip(self.names, self.prepared.checkpoints, strict=True))

    def _over_all(self, inputs: Inputs, found: Resolved) -> Resolved:
        """Rules over the models of the space, of which the recipe's may be some."""
        if inputs.models == self.names:
            return found
        places = [self.names.index(name) for name in inputs.models]
        everyone = tuple(range(len(places)))
        tensors = self.prepared.checkpoints[0].tensors
        takers = {
            name: tuple(places[i] for i in found.takers.get(name, everyone)) for name in tensors
        }
        rules = {name: found.rules.get(name, found.rule) for name in tensors}
        rule = over_all(found.rule, places, len(self.names))
        return Resolved(rule, rules, takers, found.warnings)


def _check_point(prepared: Prepared) -> None:
    """Refuse recipes that are no point between models that are there."""
    name = prepared.inputs.name
    if prepared.inputs.method.by_loss:
        raise RecipeError(
            f"{name} chooses by loss itself",
            where="merge_method",
            remedy="search linear, or run the recipe without ranges",
        )
    if prepared.inputs.method.needs:
        raise RecipeError(
            f"{name} needs data of each model, and a search measures points that need none",
            where="merge_method",
            remedy="run the recipe without ranges",
        )
    if prepared.stack is not None:
        raise RecipeError(
            "slices that leave out, repeat or move layers make another architecture, and a search "
            "measures points between models",
            where="slices",
            remedy="write whole models, with gradients or filters over the layers",
        )
    if prepared.members:
        raise RecipeError(
            "members are trained first, and a search measures models that are there",
            where="finetune",
            remedy="run `geo-merge finetune` first, and name its outputs as models",
        )


def _check_models(one: Prepared, widest: Prepared) -> None:
    """Refuse methods over models that no recipe of the space has together."""
    others: Sequence[str] = [name for name in one.inputs.models if name not in widest.inputs.models]
    if others:
        raise RecipeError(
            f"{one.inputs.name} merges {', '.join(one.inputs.models)}, and {widest.inputs.name} "
            f"{', '.join(widest.inputs.models)}: the models of one must hold those of all others",
            where="merge_method",
            remedy="search them apart",
        )
