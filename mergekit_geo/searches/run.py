"""`geo.search`: the merge of lowest loss in a space of recipes."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.origin import model_entries
from mergekit_geo.commands._merge import merge_at, require_one_process, study_of
from mergekit_geo.commands._run import Findings, Work, command
from mergekit_geo.commands.early import check_early
from mergekit_geo.commands.request import Request
from mergekit_geo.config.data import BUILTIN, source_of
from mergekit_geo.config.selection import SelectionConfig
from mergekit_geo.errors import ArgumentError
from mergekit_geo.extras import require
from mergekit_geo.interrupt import finishing
from mergekit_geo.outputs.kind import MERGED, SEARCH
from mergekit_geo.recipes.record import COPY, recorded
from mergekit_geo.recipes.run import resolved
from mergekit_geo.searches.candidates import Candidates
from mergekit_geo.searches.idle import refuse_idle
from mergekit_geo.searches.ray_session import LOCAL, check_reachable
from mergekit_geo.searches.storage_place import shown
from mergekit_geo.searches.subject import known_models, space_of
from mergekit_geo.selection.selector import Selector
from mergekit_geo.specs.merges import OfRecipe, RunSpec
from mergekit_geo.specs.search import SearchSpec
from mergekit_geo.specs.spec import repeated

if TYPE_CHECKING:
    from mergekit_geo.evaluation.study import Study
    from mergekit_geo.outputs.output import Output
    from mergekit_geo.searches.searching import Searched
    from mergekit_geo.searches.trial import Values

REMARK = "the best so far was written, and the study is kept"


@command(SearchSpec)
def search(asked: SearchSpec) -> Work:
    """Search the ranges of a recipe, or methods, for the merge of lowest loss.

    Trials are chosen on one half of the documents of every set; the best of them is measured on the
    other, beside the default recipe, the uniform soup and the best parent.

    Raises:
        RecipeError: The recipe is not valid, or has no ranges.
        ArgumentError: The study in the storage is of another search, or cannot be reached.
        DataError: Too few documents, or no trial keeps the sets that are to be kept.
        GeoError: With the reason and the remedy; nothing is half-written.

    Example:
        ```python
        import mergekit_geo as geo

        weight = {"weight": {"min": 0, "max": 1}}
        recipe = {
            "merge_method": "linear",
            "models": [{"model": name, "parameters": weight} for name in ("a", "b")],
        }
        data = {"code": "code.jsonl", "chat": "chat.jsonl"}
        found = geo.search(recipe, "out", data=data, aiming=geo.SearchAim("worst"), trials=8)
        print(found)  # in words
        print(found.measurements.search.better_than_default)
        ```
    """
    for library in ("optuna", "cmaes"):
        require(library, "geo-merge search")
    if asked.engine == "ray":
        require("ray", "--engine ray")
        check_reachable(asked.ray_address or LOCAL)
    require_one_process()
    candidates = Candidates.open(space_of(asked), known_models(asked), asked.reshape)
    _, call = resolved(asked, candidates.prepared.recipe)
    _check(call)
    candidates = replace(candidates, dtype=call.output.stored_dtype)
    refuse_idle(candidates)
    checkpoints = candidates.prepared.checkpoints
    check_early(checkpoints, call, SelectionConfig())
    writes = not call.aiming.is_pareto or call.take is not None
    do = partial(_search, call, candidates)
    return Work(call, do, MERGED if writes else SEARCH, checkpoints)


def _check(asked: SearchSpec) -> None:
    """Refuse what can be refused before any model is loaded."""
    if source_of(asked.data).is_nothing:
        raise ArgumentError("a search measures loss, and --no-eval measures none")
    if source_of(asked.data).is_default:
        raise ArgumentError(
            "recipes chosen by loss would be tuned to the built-in text",
            remedy=f"give held-out data with --data, or name the built-in text: --data {BUILTIN}",
        )
    _check_engine(asked)


def _check_engine(asked: SearchSpec) -> None:
    """Refuse what the processes that measure trials cannot do."""
    apart = (asked.workers or 1) > 1 or asked.engine == "ray"
    if apart and not source_of(asked.data).spoken:
        raise ArgumentError("other processes cannot measure a function", where="data")
    if apart and ":" in (asked.compute.device or ""):
        raise ArgumentError(
            f"each process has a device of its own, and --device names one: {asked.compute.device}",
            remedy="--device cuda, with CUDA_VISIBLE_DEVICES for those that may be used",
        )
    if asked.engine != "ray" and (asked.ray_address or asked.num_gpus is not None):
        raise ArgumentError(
            "--ray-address and --num-gpus are of a Ray cluster", remedy="--engine ray"
        )


def _search(asked: SearchSpec, candidates: Candidates, output: Output) -> Findings:
    """Make trials, and write the best of them."""
    from mergekit_geo.searches.searching import Searching  # torch and optuna, to measure

    request = _request(asked, candidates, candidates.space.defaults)
    study = study_of(candidates.prepared.checkpoints, request, output)
    study.require_measurable()
    with finishing(REMARK) as told, study.clock.running():
        found = Searching(asked, candidates, study).run(told)
    if found.taken is None:
        return _shown(asked, found, study)
    request = _request(asked, candidates, found.taken.values)
    merged = merge_at(found.selected, found.evaluator, study, request, output)
    return replace(merged, record=merged.record.model_copy(update={"search": found.entry}))


def _shown(asked: SearchSpec, found: Searched, study: Study) -> Findings:
    """What is reported where no merge is written."""
    storage = None if asked.storage is None else shown(asked.storage)  # without its password
    return Findings(
        found.measurements(),
        model_entries(study.anchors),
        found.place,
        data=found.data,
        again=repeated(replace(asked, storage=storage)),
        warnings=[*study.checked.warnings, *found.evaluator.all_warnings],
    )


def _request(asked: SearchSpec, candidates: Candidates, values: Values) -> Request:
    """The merge of values, as `geo-merge run` would be asked for it."""
    prepared = candidates.of(values)
    names = {one.name for one in fields(OfRecipe)} - {"given"}
    shared = {name: getattr(asked, name) for name in names}
    shared["aiming"] = asked.aiming.combined
    call = RunSpec(str(Path(asked.out or "") / COPY), asked.out, **shared)
    return recorded(prepared, Request(call, Selector(prepared.resolved.rule), {}), call)
