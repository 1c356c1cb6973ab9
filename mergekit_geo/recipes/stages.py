"""Models that other recipes of a file make first, planned from headers alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.adapter.names import AdapterBase
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.checkpoints.reference import open_checkpoint
from mergekit_geo.config.aim import AimConfig
from mergekit_geo.config.data import EvalData
from mergekit_geo.config.output import DTYPES
from mergekit_geo.errors import GeoError, InternalError, RecipeError
from mergekit_geo.recipes.documents import Documents, named_in
from mergekit_geo.recipes.plan import Prepared, prepare
from mergekit_geo.recipes.reading import Document
from mergekit_geo.recipes.stage_key import stage_key
from mergekit_geo.specs.merges import RunSpec
from mergekit_geo.views.again import renamed

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model


@dataclass(frozen=True)
class Stage:
    """A model that is made first.

    Attributes:
        document: Its recipe.
        prepared: The same with its models opened, those that are not made yet by their headers.
        asked: How it is made: the options of the call, with what this recipe says.
        key: A hash of all that its weights depend on.
        standing: Its headers, under its name.
    """

    document: Document
    prepared: Prepared
    asked: RunSpec
    key: str
    standing: Checkpoint

    @property
    def name(self) -> str:
        """What other recipes call it."""
        return str(self.document.name)

    @property
    def nbytes(self) -> int:
        """Bytes of its weights."""
        return sum(info.nbytes for info in self.standing.tensors.values())


def planned(documents: Documents, asked: RunSpec) -> list[Stage]:
    """Read the headers of all that is made first, and refuse what can be refused without it.

    Raises:
        GeoError: A recipe, or a model of it, is not valid.
    """
    found: list[Stage] = []
    for document in documents.before:
        with of_stage(str(document.name)):
            _refuse(document, asked)
            known = known_to(document, asked, {stage.name: stage.standing for stage in found})
            found.append(_planned(prepare(document, known, asked.reshape), asked))
    return found


@contextmanager
def of_stage(name: str) -> Iterator[None]:
    """Errors in here name the stage that they are of."""
    try:
        yield
    except GeoError as error:
        error.where = ": ".join(filter(None, [name, error.where]))
        raise


def _planned(prepared: Prepared, asked: RunSpec) -> Stage:
    own = _asked_of(prepared, asked)
    key = stage_key(prepared, own)
    return Stage(prepared.document, prepared, own, key, _standing(prepared, key))


def known_to(
    document: Document, asked: RunSpec, stages: Mapping[str, Checkpoint]
) -> dict[str, Model]:
    """What names of models in a recipe stand for, where not folders or Hub ids.

    Args:
        document: The recipe.
        asked: The call.
        stages: By name, with weights or without.
    """
    found: dict[str, Model] = {**(asked.models or {}), **stages}

    def note(reference: str) -> str:
        name = named_in(reference, set(stages))
        if name is not None and name != reference:  # with an adapter on it
            found[reference] = open_checkpoint(reference, 0, {name: AdapterBase(stages[name])})
        return reference

    renamed(document.recipe.model_dump(exclude_none=True), note)
    return found


def _refuse(document: Document, asked: RunSpec) -> None:
    """Refuse what a recipe of the output may say alone."""
    if document.recipe.push_to is not None:
        raise RecipeError(
            f"{document.name} is made on the way, and only the output is pushed",
            where=document.where("push_to"),
            remedy="write push_to in the recipe of the output",
        )
    if document.name in (asked.models or {}):
        raise RecipeError(
            f"{document.name} is a recipe of the file, and a model of the call",
            where=document.where("name"),
            remedy="give one of them another name",
        )


def _asked_of(prepared: Prepared, asked: RunSpec) -> RunSpec:
    """How a stage is made: measured only where its recipe names data, or loss chooses."""
    recipe, data = prepared.recipe, asked.data if prepared.inputs.method.by_loss else None
    return replace(
        asked,
        output=replace(asked.output.local, dtype=None, overwrite=True),
        data=EvalData() if recipe.objective else data,
        aiming=AimConfig() if recipe.objective else asked.aiming,
        sharpness=recipe.sharpness or "off",
        members_in=None,
        given=frozenset(),
    )


def _standing(prepared: Prepared, key: str) -> Checkpoint:
    """The headers and side files of what a recipe makes, and no weights."""
    found = prepared.checked()
    found.require()
    recipe = prepared.recipe
    dtype = recipe.out_dtype or recipe.dtype
    blend = prepared.blend(tuple(found.anchors), dtype and DTYPES[dtype])
    donor = blend.donor
    return Checkpoint(
        name=str(recipe.name),
        tensors=blend.outputs(),
        read=_unread,
        fingerprint=lambda: ["stage", key],
        config=donor.config,
        folder=donor.folder,
        ties=donor.ties,
        reshaped=donor.reshaped,
        frame=donor.frame,
        in_memory=donor.in_memory,
    )


def _unread(name: str, start: int, stop: int, out: Bytes) -> None:
    raise InternalError(f"{name} of a model that is not made yet was read")
