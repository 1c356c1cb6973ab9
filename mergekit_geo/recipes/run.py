"""`geo.run`: a merge as a recipe says it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.clock import on_one_clock
from mergekit_geo.commands.early import check_early
from mergekit_geo.commands.merge import merge, require_one_process
from mergekit_geo.commands.request import Request
from mergekit_geo.commands.result import MergeResult
from mergekit_geo.commands.soup import BUILTIN_TEXT, soup_request
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.data import EvalData
from mergekit_geo.connectivity.config import FITTED, Fitting
from mergekit_geo.errors import RecipeError
from mergekit_geo.outputs.config import OutputConfig
from mergekit_geo.progress import Progress, Silent
from mergekit_geo.recipes.data import fitted_to, held_out, read_as, spoken_over
from mergekit_geo.recipes.members import folder_of_members
from mergekit_geo.recipes.plan import Prepared, prepare
from mergekit_geo.recipes.record import recorded
from mergekit_geo.recipes.schema import Recipe
from mergekit_geo.selection.config import Choosing

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.evaluation.losses import Data


@on_one_clock
def run(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    models: Mapping[str, Model] | None = None,
    output: OutputConfig = OutputConfig(),
    data: Data = BUILTIN_TEXT,
    train_data: EvalData | None = None,
    compute: Compute = Compute(),
    sharpness: str | None = None,
    seed: int | None = None,
    meant: Collection[str] = (),
    members_in: str | Path | None = None,
    progress: Progress | None = None,
) -> MergeResult:
    """Merge as a recipe says it; what the call says goes before what the recipe says.

    Args:
        recipe: A YAML file, YAML text of more than one line, or a mapping.
        out: Folder to write; None keeps the result in memory.
        models: What names in the recipe stand for, where not folders or Hub ids: modules, state
            dicts.
        output: How the checkpoint is written.
        data: What loss is measured on, where the recipe has no objective; None measures none.
        train_data: What BatchNorm statistics are estimated on, and paths are fitted to.
        compute: How models are run.
        sharpness: Of parents and output; as the recipe says if None, or else `quick`.
        seed: Of training, fits, samples, halves and intervals; that of `data`, if it is not 0, or
            else the recipe's, if None.
        meant: Settings of `data`, such as `loss_on`, that go before the recipe's even where they
            are the defaults; others always do.
        members_in: Folder of the members that are trained first; None is `OUT.members`, or one
            that is gone afterwards where the result stays in memory. Members that are there are
            not trained again, and an unfinished training goes on.
        progress: Told what is going on.

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
    prepared = prepare(recipe, models)
    said = spoken_over(prepared.recipe, data, meant, seed)
    if isinstance(data, EvalData) and seed is not None:
        data = replace(data, seed=seed)
    call = _Call(
        None if out is None else Path(out),
        _output(said, output),
        held_out(said, data),
        train_data or fitted_to(said, data),
        compute,
        sharpness or said.sharpness or "quick",
        progress or Silent(),
    )
    _check_data(prepared, call)
    with folder_of_members(call.out, members_in) as folder:
        kept = members_in is not None or out is not None
        if prepared.members:
            prepared = _with_members(prepared, call, read_as(said, data), folder, kept=kept)
        request = recorded(prepared, _request(prepared, call), out)
        return merge(prepared.checkpoints, request, call.out, call.progress)


@dataclass(frozen=True)
class _Call:
    """Arguments of the call, which take precedence over the recipe."""

    out: Path | None
    output: OutputConfig
    data: Data
    train_data: EvalData | None
    compute: Compute
    sharpness: str
    progress: Progress


def _check_data(prepared: Prepared, call: _Call) -> None:
    """Check settings and data of choosing, before anything is trained or fitted."""
    _choosing(prepared, call.data)
    along = prepared.recipe.along
    if along is not None and along.kind in FITTED and call.train_data is None:
        raise RecipeError(
            f"a {along.kind} path is fitted to training data, and nothing says to which",
            where="along",
            remedy="add `train_data: text.jsonl` under along, or give --train-data",
        )


def _request(prepared: Prepared, call: _Call) -> Request:
    if not prepared.inputs.method.by_loss:
        return Request(
            "run", prepared.resolved.rule, {}, (), call.output, call.data, call.compute,
            call.sharpness, train_data=call.train_data,
        )  # fmt: skip
    along = prepared.recipe.along
    seed = call.data.seed if isinstance(call.data, EvalData) else prepared.recipe.seed
    return soup_request(
        prepared.models, prepared.checkpoints, call.out,
        choosing=_choosing(prepared, call.data), output=call.output, data=call.data,
        train_data=call.train_data, compute=call.compute, sharpness=call.sharpness,
        fitting=along.fitting() if along else Fitting(),
        fit_seed=seed if along is None or along.seed is None else along.seed,
        progress=call.progress,
    )  # fmt: skip


def _with_members(
    prepared: Prepared, call: _Call, how: EvalData, folder: Path, *, kept: bool
) -> Prepared:
    """Train members, after all has been checked that can be without them."""
    from mergekit_geo.recipes.training import Orders, ready, train

    require_one_process()
    choosing = _choosing(prepared, call.data)
    wanted = prepared.tokenizer_of
    check_early(prepared.checkpoints, call.output, call.out, choosing, call.data, wanted)
    orders = Orders(prepared.known, how, call.data, call.compute, call.output)
    return prepared.with_trained(
        train(ready(prepared.members, folder, orders), call.progress, kept=kept)
    )


def _output(recipe: Recipe, output: OutputConfig) -> OutputConfig:
    dtype = output.dtype or recipe.out_dtype or recipe.dtype
    return replace(output, dtype=dtype, push_to=output.push_to or recipe.push_to)


def _choosing(prepared: Prepared, data: Data) -> Choosing:
    """Settings of how the point is chosen.

    Raises:
        RecipeError: It is chosen by loss, and there is no objective.
    """
    along, name = prepared.recipe.along, prepared.inputs.name
    if not prepared.inputs.method.by_loss:
        return Choosing()
    choosing = along.choosing() if along else Choosing(method=name)
    named = data is not None and not (isinstance(data, EvalData) and not data.source)
    if choosing.by_loss(len(prepared.inputs.models)) and not named:
        raise RecipeError(
            f"{name} chooses by loss, and nothing says on what data",
            where="objective",
            remedy="add `objective: {data: held_out.jsonl}`, or give --data",
        )
    return choosing
