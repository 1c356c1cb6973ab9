"""A recipe with its models opened, and nothing done yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.derived import overlay
from mergekit_geo.checkpoints.modules import mergeable
from mergekit_geo.checkpoints.reference import open_checkpoint, open_checkpoints
from mergekit_geo.checkpoints.reshape.frame import Frame
from mergekit_geo.checkpoints.reshape.graft import seated
from mergekit_geo.checkpoints.reshape.reshape import reshaped
from mergekit_geo.checkpoints.reshape.result import Reshaped
from mergekit_geo.checkpoints.reshape.view import view
from mergekit_geo.config.reshape import ReshapeConfig
from mergekit_geo.config.training import FITTED
from mergekit_geo.connectivity.paths import KINDS
from mergekit_geo.errors import ArgumentError, RecipeError
from mergekit_geo.files.local_path import local_path
from mergekit_geo.files.sound_json import brief
from mergekit_geo.merging.blend import Blend
from mergekit_geo.recipes.chat import chat_template
from mergekit_geo.recipes.inputs import Inputs, inputs_of
from mergekit_geo.recipes.members import RecipeMember, members_of
from mergekit_geo.recipes.reading import Document, read_document
from mergekit_geo.recipes.resolve import Resolved, resolve
from mergekit_geo.recipes.schema import Recipe
from mergekit_geo.recipes.slices import is_stack, ranged
from mergekit_geo.recipes.stack import ALONE, SlicedStack
from mergekit_geo.recipes.template import Template, template_for
from mergekit_geo.recipes.tokenizer import fitting_of

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.checkpoints.comparison import Preflight
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.recipes.stage_store import MadeStage
    from mergekit_geo.recipes.training import TrainedMembers


NOTHING = Resolved(ALONE, {})


@dataclass(frozen=True)
class Prepared:
    """A recipe with its models opened, and nothing done yet.

    Attributes:
        document: The recipe, and what was said of its text.
        inputs: Who takes part.
        opened: The anchors, headers read.
        fitting: How they are made to fit one another.
        resolved: The rule of every tensor.
        models: As the workflows take them.
        members: To be trained first.
        bases: What each stands as until then, by its name.
        known: What names stand for, where not folders or Hub ids.
        seated: What was said of models that are taken as a module of another.
        trained: The members, when they are there.
        stages: Models that it names and other recipes of the file have made, in their order.
        stack: Its slices, where they make another architecture; nothing is resolved before then.
    """

    document: Document
    inputs: Inputs
    opened: list[Checkpoint]
    fitting: ReshapeConfig
    resolved: Resolved
    models: list[Model]
    members: tuple[RecipeMember, ...]
    bases: Mapping[str, Checkpoint]
    known: Mapping[str, Model]
    seated: Reshaped
    trained: TrainedMembers | None = None
    stages: tuple[MadeStage, ...] = ()
    stack: SlicedStack | None = None

    @cached_property
    def fitted(self) -> Reshaped:
        """The anchors, or views of them that fit one another.

        Raises:
            RecipeError: They cannot be made to fit as the recipe says.
            CheckpointError: They cannot be made to fit.
        """
        has_base = self.recipe.base_model is not None
        try:
            return self.seated.then(reshaped(self.opened, self.fitting, has_base=has_base))
        except ArgumentError as error:
            where = error.where or "tokenizer"
            raise RecipeError(error.message, where=where, remedy=error.remedy) from error

    @cached_property
    def template(self) -> Template:
        """The output's chat template.

        Raises:
            RecipeError: It cannot be that.
        """
        return template_for(self.recipe.chat_template, self.opened, self.checkpoints[0])

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The anchors as they are merged."""
        return self.fitted.checkpoints

    def checked(self) -> Preflight:
        """Compare the anchors; of models whose layers are taken apart, all but their depth."""
        by_layers = self.stack is not None
        return mergeable(self.checkpoints, by_layers=by_layers)

    @property
    def recipe(self) -> Recipe:
        """The recipe as read."""
        return self.document.recipe

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings on the recipe."""
        training = self.trained.warnings if self.trained else ()
        stages = [f"{s.name}: {text}" for s in self.stages for text in s.stage.prepared.warnings]
        return (
            *stages,
            *self.document.warnings,
            *self.inputs.warnings,
            *self.resolved.warnings,
            *self.fitted.warnings,
            *self.template.warnings,
            *training,
        )

    def blend(self, anchors: tuple[Checkpoint, ...], dtype: str | None) -> Blend:
        """What is merged, before loss chooses anything.

        Args:
            anchors: The checkpoints under the donor's names.
            dtype: Of every float tensor in the output; the donor's if None.
        """
        if self.stack is not None:
            return self.stack.of(anchors, dtype).blend
        found = self.resolved
        return Blend(anchors, found.rule, dtype, found.rules, found.takers)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to make the models fit, and how the chat template was chosen."""
        return (*self.fitted.notes, *self.template.notes)

    def with_trained(self, trained: TrainedMembers) -> Prepared:
        """Replace the bases of trained members by the members."""
        there, names = trained.checkpoints, self.inputs.models
        models = zip(names, self.models, strict=True)
        opened = zip(names, self.opened, strict=True)
        return replace(
            self,
            models=[there.get(name, model) for name, model in models],
            opened=[there.get(name, found) for name, found in opened],
            trained=trained,
        )


def prepare(
    recipe: str | Path | Mapping[str, Any] | Document,
    models: Mapping[str, Model] | None = None,
    called: ReshapeConfig = ReshapeConfig(),
) -> Prepared:
    """Read a recipe, if it is not read yet, and the headers of its models.

    Raises:
        RecipeError: The recipe is not valid.
        CheckpointError: A model cannot be used.
    """
    document = recipe if isinstance(recipe, Document) else read_document(recipe)
    said = document.recipe
    inputs = inputs_of(said)
    _check_own_keys(said, inputs)
    chat_template(said.chat_template)
    known, members = models or {}, members_of(said)
    bases = {m.name: _standing_in(m, known) for m in members}
    found: list[Model] = [bases.get(name, known.get(name, name)) for name in inputs.models]
    checkpoints = open_checkpoints(found)
    for place, name in enumerate(inputs.models):
        if stated := said.architectures.get(name):
            found[place] = checkpoints[place] = _overridden(checkpoints[place], stated)
    seats = _seated(inputs, checkpoints, allow_missing=called.allow_missing_parts)
    checkpoints = list(seats.checkpoints)
    inputs = ranged(inputs, checkpoints)
    stack = SlicedStack(inputs) if is_stack(inputs, checkpoints) else None
    if stack is not None and inputs.method.by_loss:
        raise RecipeError(
            f"{inputs.name} chooses a point between models by loss, and slices that leave out, "
            "repeat or move layers make another architecture",
            where="slices",
            remedy="use another merge_method",
        )
    names = dict(zip(inputs.models, (one.name for one in checkpoints), strict=True))
    fitting = fitting_of(said.tokenizer, said.tokenizer_source, called, names)
    resolved = resolve(inputs, checkpoints[0]) if stack is None else NOTHING
    return Prepared(
        document,
        inputs,
        checkpoints,
        fitting,
        resolved,
        found,
        members,
        bases,
        known,
        seats,
        stack=stack,
    )


def _seated(inputs: Inputs, checkpoints: Sequence[Checkpoint], *, allow_missing: bool) -> Reshaped:
    """Models that a recipe names in one module, as that module of one that has several."""
    used = [{part.module for part in inputs.parts if name in part.taken} for name in inputs.models]
    if not any(module for modules in used for module in modules):
        return Reshaped(tuple(checkpoints))
    parts = [next(iter(modules)) if len(modules) == 1 else "" for modules in used]
    try:
        return seated(checkpoints, parts, allow_missing=allow_missing)
    except ArgumentError as error:
        raise RecipeError(error.message, where="modules", remedy=error.remedy) from error


def _overridden(checkpoint: Checkpoint, architecture: str) -> Checkpoint:
    """A model whose configuration names another class."""
    config = {**checkpoint.config, "architectures": [architecture]}
    if config == checkpoint.config:
        return checkpoint
    frame = Frame(checkpoint, config)
    return view(checkpoint, checkpoint.tensors, lambda one: one.read, frame, architecture)


def _standing_in(member: RecipeMember, known: Mapping[str, Model]) -> Checkpoint:
    """A member's base under its name: the headers are those that it will have."""
    model = member.entry.model
    return overlay(open_checkpoint(known.get(model, model)), {}, member.name)


def _check_own_keys(recipe: Recipe, inputs: Inputs) -> None:
    if (inputs.name == "along") != (recipe.along is not None):
        raise RecipeError(
            "merge_method: along and the key along go together",
            where="along",
            remedy="write `merge_method: along` and `along: {kind: linear, pick: best}`",
        )
    kind = recipe.along and recipe.along.kind
    if kind and kind not in {*KINDS, *FITTED} and not local_path(kind).is_dir():
        raise RecipeError(
            f"along {brief(kind)}: expected one of {', '.join([*KINDS, *FITTED])}, or the folder "
            "of a fitted path",
            where="along",
            remedy="geo-merge path A B -o DIR makes one",
        )
