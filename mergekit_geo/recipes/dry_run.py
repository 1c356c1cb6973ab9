"""`geo-merge run --dry-run`: what a recipe would do, from headers alone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.origin import model_entries
from mergekit_geo.commands._run import Findings, Work, command
from mergekit_geo.config.data import sets_of
from mergekit_geo.config.output import DTYPES, OutputConfig
from mergekit_geo.files.user_cache import CacheFolder
from mergekit_geo.geometry.masked import Elementwise
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.gram import layer_of
from mergekit_geo.merging.tensor_record import spread
from mergekit_geo.merging.whole import check_memory
from mergekit_geo.outputs.output import Output
from mergekit_geo.outputs.place import partial_of, resolved
from mergekit_geo.recipes.data import held_out, read_as, spoken_over, trained_on
from mergekit_geo.recipes.documents import Documents, documents_of
from mergekit_geo.recipes.plan import Prepared, prepare
from mergekit_geo.recipes.stage_store import STAGES, StageStore
from mergekit_geo.recipes.stages import Stage, known_to, planned
from mergekit_geo.records.plan import PlanMeasurements, PlannedMember, PlannedStage, PlanRow
from mergekit_geo.selection.statistics import selector_of
from mergekit_geo.specs.merges import RunSpec
from mergekit_geo.specs.spec import Writing

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.config.data import Data, EvalData

Numbers = tuple[float, ...]


@command(RunSpec)
def dry_run(asked: RunSpec) -> Work:
    """Resolve a recipe and check its models, without reading or writing weights.

    Raises:
        RecipeError: The recipe is not valid.
        IncompatibleError: The models do not belong together.

    Example:
        >>> import torch
        >>> state = {f"layers.{i}.w": torch.ones(1) for i in range(3)}
        >>> recipe = {"merge_method": "slerp", "base_model": "a", "parameters": {"t": [0, 1]},
        ...           "models": [{"model": "a"}, {"model": "b"}]}
        >>> found = dry_run(recipe, models={"a": state, "b": state}).measurements
        >>> [row.weights for row in found.rows]
        [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    return plan_of(documents_of(asked), asked)


def plan_of(documents: Documents, asked: RunSpec) -> Work:
    """The work of a dry run."""

    def do(output: Output) -> Findings:
        stages = planned(documents, asked)
        known = known_to(documents.output, asked, {one.name: one.standing for one in stages})
        prepared = prepare(documents.output, known, asked.reshape)
        found = prepared.checked()
        found.require()
        _check_train_data(prepared, asked)
        measured = _measured(prepared, tuple(found.anchors), asked.target, asked.output, asked)
        warnings = [text for stage in stages for text in stage.prepared.warnings]
        return Findings(
            measured.model_copy(update={"stages": [_stage(one) for one in stages]}),
            model_entries(prepared.checkpoints),
            settings={"recipe": prepared.recipe.model_dump(exclude_none=True)},
            warnings=[*warnings, *prepared.warnings, *found.warnings],
        )

    return Work(replace(asked, dry_run=True), do)


def _check_train_data(prepared: Prepared, asked: RunSpec) -> None:
    """Refuse a method that needs data of the models where one has none."""
    inputs = prepared.inputs
    data = asked.train_data or trained_on(prepared.recipe, asked.data)
    if inputs.method.needs:
        selector_of(inputs.method, prepared.resolved.rule, inputs.models, data)


def _stage(stage: Stage) -> PlannedStage:
    """What would be made on the way."""
    store = StageStore(CacheFolder(STAGES).folder)
    anchors = stage.prepared.checked().anchors
    place = store.place(stage)
    unfinished = partial_of(place).is_dir()
    return PlannedStage(
        name=stage.name,
        models=list(stage.prepared.inputs.models),
        folder=str(place),
        state="made" if store.holds(stage) else "unfinished" if unfinished else "to be made",
        needs=store.needs(stage),
        plan=_measured(stage.prepared, tuple(anchors), place, stage.asked.output, stage.asked),
    )


def _measured(
    prepared: Prepared,
    anchors: tuple[Checkpoint, ...],
    out: str | Path | None,
    output: OutputConfig,
    asked: RunSpec,
) -> PlanMeasurements:
    by_loss = prepared.inputs.method.by_loss
    said = spoken_over(prepared.recipe, asked.data, asked.given, asked.seed)
    how, measured = read_as(said, asked.data), replace(asked, data=held_out(said, asked.data))
    if output.require is not None:
        Writing.check_requirement(replace(measured, output=output))
    dtype = output.dtype or prepared.recipe.out_dtype or prepared.recipe.dtype
    stack = prepared.stack and prepared.stack.of(anchors, dtype and DTYPES[dtype])
    blend = stack.blend if stack else prepared.blend(anchors, dtype and DTYPES[dtype])
    outputs, need = blend.outputs(), check_memory(blend, output.device)
    floats = sorted({info.dtype for info in outputs.values() if info.is_float})
    return PlanMeasurements(
        method=prepared.inputs.name,
        by_geometry=any(rule.needs_gram for rule in (blend.rule, *blend.rules.values())),
        by_loss=by_loss,
        rows=[] if by_loss or len(blend.anchors) > len(anchors) else _rows(blend),
        tensors=len(outputs),
        parameters=sum(info.count for info in outputs.values() if info.is_float),
        read=sum(info.nbytes for name in outputs for info in blend.infos(name)),
        written=sum(info.nbytes for info in outputs.values()),
        free=None if out is None else _free(Path(out)),
        dtype=", ".join(floats),
        members=_members(prepared, None if out is None else Path(out), output, how),
        layers=stack.entries([anchor.name for anchor in anchors]) if stack else [],
        sets=_sets(measured.data),
        memory=need.nbytes if need else 0,
    )


def _sets(data: Data) -> dict[str, str]:
    """Where each of several sets is from."""
    found = sets_of(data)
    if len(found) == 1:
        return {}
    sources = ((one.name, one.data.as_settings) for one in found)
    return {name: "a function" if one is None else one.origin for name, one in sources}


def _members(
    prepared: Prepared, out: Path | None, output: OutputConfig, how: EvalData
) -> list[PlannedMember]:
    if not prepared.members:
        return []
    from mergekit_geo.recipes.planned import planned_members

    return planned_members(prepared, out, output, how)


def _rows(blend: Blend) -> list[PlanRow]:
    """Tensors by layer, weights and densities, in the donor's order."""
    found: dict[tuple[str, Numbers, Numbers], list[str]] = {}
    every = tuple(range(len(blend.anchors)))
    for name, info in blend.outputs().items():
        if info.is_float:
            rule, taken = blend.rule_for(name), blend.takers.get(name, every)
            weights = spread(rule.weights, taken, len(every), 0.0)
            kept = rule.densities if isinstance(rule, Elementwise) else ()
            densities = spread(kept, taken, len(every), 1.0)
            found.setdefault((layer_of(name), weights, densities), []).append(name)
    return [
        PlanRow(layer=layer, tensors=names, weights=list(weights), densities=list(densities))
        for (layer, weights, densities), names in found.items()
    ]


def _free(out: Path) -> int:
    """Bytes free on the disk of a folder that need not be there yet."""
    folder = resolved(out)
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
