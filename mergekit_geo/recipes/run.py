"""`geo.run`: a merge as a recipe says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mergekit_geo.commands._merge import merge, require_one_process
from mergekit_geo.commands._run import Findings, Work, command
from mergekit_geo.commands.early import check_early
from mergekit_geo.commands.request import Request
from mergekit_geo.commands.soup import check_aim, soup_request
from mergekit_geo.config.aim import AimConfig
from mergekit_geo.config.data import EvalData, sets_of, source_of
from mergekit_geo.config.output import OutputConfig
from mergekit_geo.config.selection import SelectionConfig
from mergekit_geo.config.training import FITTED, CurveFitConfig
from mergekit_geo.errors import RecipeError
from mergekit_geo.outputs.kind import MERGED
from mergekit_geo.outputs.output import Output
from mergekit_geo.recipes.data import fitted_to, held_out, read_as, spoken_over, trained_on
from mergekit_geo.recipes.documents import Documents, documents_of
from mergekit_geo.recipes.dry_run import plan_of
from mergekit_geo.recipes.members import folder_of_members
from mergekit_geo.recipes.plan import Prepared, prepare
from mergekit_geo.recipes.record import recorded
from mergekit_geo.recipes.schema import Recipe
from mergekit_geo.recipes.stage_store import make, store_of
from mergekit_geo.recipes.stages import known_to, of_stage, planned
from mergekit_geo.selection.selector import Selector
from mergekit_geo.selection.statistics import selector_of
from mergekit_geo.specs.merges import OfRecipe, RunSpec, SoupSpec
from mergekit_geo.specs.spec import Writing

if TYPE_CHECKING:
    from mergekit_geo.config.aim import AimConfig
    from mergekit_geo.config.data import Data
    from mergekit_geo.recipes.reading import Document
    from mergekit_geo.recipes.stage_store import MadeStage
    from mergekit_geo.recipes.stages import Stage

Call = TypeVar("Call", bound=OfRecipe)


@command(RunSpec)
def run(asked: RunSpec) -> Work:
    """Merge as a recipe says it; what the call says goes before what the recipe says.

    Raises:
        RecipeError: The recipe is not valid.
        GeoError: With the reason and the remedy; nothing is half-written.

    Example:
        >>> import torch
        >>> a, b = {"w": torch.tensor([0.0, 2.0])}, {"w": torch.tensor([4.0, 2.0])}
        >>> recipe = {"merge_method": "linear", "models": [{"model": "a"}, {"model": "b"}]}
        >>> run(recipe, models={"a": a, "b": b}, data=None).state["w"]
        tensor([2., 2.])
    """
    documents = documents_of(asked)
    if asked.dry_run:
        return plan_of(documents, asked)
    stages = planned(documents, asked)
    known = known_to(documents.output, asked, {stage.name: stage.standing for stage in stages})
    prepared = prepare(documents.output, known, asked.reshape)
    if not stages:
        _check_aim(prepared, asked.aiming)
        return _work(asked, prepared)
    for stage in stages:
        with of_stage(stage.name):
            _work(stage.asked, stage.prepared, early=True)

    def do(output: Output) -> Findings:
        with store_of(stages, asked.told.say) as store:
            made = make(stages, store, partial(_stage_work, documents), asked.told)
            return _after(documents, documents.output, asked, made).do(output)

    return replace(_work(asked, prepared, early=True), do=do)


def _check_aim(prepared: Prepared, aiming: AimConfig) -> None:
    """Refuse an aim of the call where the only recipe chooses nothing by loss."""
    along, method = prepared.recipe.along, prepared.inputs.method
    choosing = along.choosing() if along else SelectionConfig()
    if not method.by_loss or along:
        check_aim(aiming, choosing, len(prepared.inputs.models))


def _stage_work(
    documents: Documents, stage: Stage, place: Path, made: Mapping[str, MadeStage]
) -> Work:
    asked = replace(stage.asked, out=place)
    return _after(documents, stage.document, asked, made)


def _after(
    documents: Documents, document: Document, asked: RunSpec, made: Mapping[str, MadeStage]
) -> Work:
    """The work of a recipe when all that it is made of is there."""
    known = known_to(document, asked, {name: one.checkpoint for name, one in made.items()})
    needed = [made[one.name] for one in documents.needed_by(document) if one.name]
    return _work(asked, replace(prepare(document, known, asked.reshape), stages=tuple(needed)))


def _work(asked: RunSpec, prepared: Prepared, *, early: bool = False) -> Work:
    """The work of one recipe; checked early where much is done before it."""
    if asked.strict:
        _refuse_marks(prepared)
    how, call = resolved(asked, prepared.recipe)
    _check_data(prepared, call)
    wide = replace(call, compute=replace(call.compute, dtype="float32"))
    choosing = _choosing(prepared, call.data)
    shown = wide if choosing.needs_gradients else call
    if early:
        by_layers = prepared.stack is not None
        check_early(prepared.checkpoints, call, choosing, by_layers=by_layers)

    def do(output: Output) -> Findings:
        kept = asked.members_in is not None or asked.out is not None
        with folder_of_members(call.target, asked.members_in) as folder:
            there = prepared
            if prepared.members:
                there = _with_members(prepared, call, how, folder, kept=kept)
            if prepared.members or prepared.stages:
                output.refuse_inputs(there.checkpoints)
            request = recorded(there, _request(there, shown), shown)
            return _told(there, merge(there.checkpoints, request, output))

    return Work(shown, do, MERGED, prepared.checkpoints)


def _told(prepared: Prepared, found: Findings) -> Findings:
    """Findings that say what models made on the way were made of."""
    origins = {stage.name: stage.origins for stage in prepared.stages}
    models = [
        one.model_copy(update={"made_of": origins.get(one.name, one.made_of)})
        for one in found.models
    ]
    return replace(found, models=models)


def resolved(asked: Call, recipe: Recipe) -> tuple[EvalData, Call]:
    """How training data is read, and what the call says over what the recipe says.

    Args:
        asked: The call.
        recipe: The recipe.

    Raises:
        ArgumentError: The call names a set that there is not.
    """
    data, seed = asked.data, asked.seed
    said = spoken_over(recipe, data, asked.given, seed)
    if data is not None and seed is not None:
        data = source_of(data).replaced(seed=seed)
    objective = said.objective
    found = replace(
        asked,
        aiming=objective.aiming(asked.aiming, asked.given) if objective else asked.aiming,
        output=_output(said, asked.output),
        data=held_out(said, data),
        train_data=asked.train_data or fitted_to(said, data) or trained_on(said, data),
        sharpness=asked.sharpness or said.sharpness or "quick",
    )
    check_sets(found)
    return read_as(said, data), found


def check_sets(call: OfRecipe) -> None:
    """Refuse gates and aims that name a set that there is not.

    Args:
        call: With the data of the recipe, where it says what is measured.

    Raises:
        ArgumentError: It names the sets that there are.
    """
    Writing.check_requirement(call)
    call.aiming.require_known([one.name for one in sets_of(call.data)])


def _refuse_marks(prepared: Prepared) -> None:
    """Refuse a chat template whose marks are no tokens of the output's tokenizer."""
    if said := prepared.template.warnings:
        raise RecipeError(said[0], where="chat_template")


def _check_data(prepared: Prepared, call: RunSpec) -> None:
    """Check settings and data of choosing, before anything is trained or fitted."""
    _choosing(prepared, call.data)
    _selector(prepared, call)
    along = prepared.recipe.along
    if along is not None and along.kind in FITTED and call.train_data is None:
        raise RecipeError(
            f"a {along.kind} path is fitted to training data, and nothing says to which",
            where="along",
            remedy="add `train_data: text.jsonl` under along, or give --train-data",
        )


def _selector(prepared: Prepared, call: RunSpec) -> Selector:
    """The selector of the recipe's rule, which may need data of the models.

    Raises:
        RecipeError: The method needs data of the models, and its rule is not over whole models.
        ArgumentError: A model has no data and the method needs it.
    """
    inputs = prepared.inputs
    if inputs.method.needs and (inputs.further or any(inputs.ranges) or inputs.module):
        raise RecipeError(
            f"{inputs.name} weighs whole models by their data, and slices take layers of them",
            where="slices",
            remedy="list the models under `models`",
        )
    found, names = inputs.method, inputs.models
    return selector_of(found, prepared.resolved.rule, names, call.train_data)


def _request(prepared: Prepared, call: RunSpec) -> Request:
    if not prepared.inputs.method.by_loss:
        return Request(call, _selector(prepared, call), {})
    along = prepared.recipe.along
    settings = source_of(call.data).as_settings
    seed = prepared.recipe.seed if settings is None else settings.seed
    soup = SoupSpec(
        prepared.models, call.out, choosing=_choosing(prepared, call.data), aiming=call.aiming,
        output=call.output,
        data=call.data, train_data=call.train_data, compute=call.compute,
        sharpness=call.sharpness or "quick", fitting=along.fitting() if along else CurveFitConfig(),
        fit_seed=seed if along is None or along.seed is None else along.seed,
        progress=call.progress,
    )  # fmt: skip
    request = soup_request(soup, prepared.checkpoints)
    return replace(request, settings={**soup.settings(), **request.settings})


def _with_members(
    prepared: Prepared, call: RunSpec, how: EvalData, folder: Path, *, kept: bool
) -> Prepared:
    """Train members, after all has been checked that can be without them."""
    from mergekit_geo.recipes.training import Orders, ready, train

    require_one_process()
    choosing = _choosing(prepared, call.data)
    by_layers = prepared.stack is not None
    check_early(prepared.checkpoints, call, choosing, by_layers=by_layers)
    orders = Orders(prepared.known, how, call.data, call.compute, call.output)
    return prepared.with_trained(
        train(ready(prepared.members, folder, orders), call.told, kept=kept)
    )


def _output(recipe: Recipe, output: OutputConfig) -> OutputConfig:
    dtype = output.dtype or recipe.out_dtype or recipe.dtype
    return replace(output, dtype=dtype, push_to=output.push_to or recipe.push_to)


def _choosing(prepared: Prepared, data: Data) -> SelectionConfig:
    """How the point is chosen.

    Raises:
        RecipeError: It is chosen by loss, and there is no objective.
    """
    along, name = prepared.recipe.along, prepared.inputs.name
    if not prepared.inputs.method.by_loss:
        return SelectionConfig()
    choosing = along.choosing() if along else SelectionConfig(method=name)
    source = source_of(data)
    named = not (source.is_nothing or source.is_default)
    if choosing.by_loss(len(prepared.inputs.models)) and not named:
        raise RecipeError(
            f"{name} chooses by loss, and nothing says on what data",
            where="objective",
            remedy="add `objective: {data: held_out.jsonl}`, or give --data",
        )
    return choosing
