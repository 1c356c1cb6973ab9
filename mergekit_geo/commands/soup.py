"""`geo.soup`: the weighted average of models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.clock import on_one_clock
from mergekit_geo.commands.early import check_early
from mergekit_geo.commands.fitting import fitting_to
from mergekit_geo.commands.merge import merge, require_one_process
from mergekit_geo.commands.request import Request
from mergekit_geo.commands.result import MergeResult
from mergekit_geo.config.command_line import changed_flags
from mergekit_geo.config.compute import Compute
from mergekit_geo.config.data import EvalData
from mergekit_geo.connectivity.config import FITTED, Fitting
from mergekit_geo.connectivity.path_folder import named_route
from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.linear import Linear, check_weights, normalized
from mergekit_geo.outputs.config import OutputConfig
from mergekit_geo.progress import Progress, Silent
from mergekit_geo.selection.config import PAIR, Choosing

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.connectivity.paths import Route
    from mergekit_geo.evaluation.losses import Data
    from mergekit_geo.geometry.rule import Rule

BUILTIN_TEXT = EvalData()


@on_one_clock
def soup(
    models: Sequence[Model],
    out: str | Path | None = None,
    *,
    weights: Sequence[float] | None = None,
    normalize: bool = True,
    choosing: Choosing = Choosing(),
    output: OutputConfig = OutputConfig(),
    data: Data = BUILTIN_TEXT,
    train_data: Data = None,
    compute: Compute = Compute(),
    sharpness: str = "quick",
    progress: Progress | None = None,
) -> MergeResult:
    """Average models (Wortsman 2022), and measure parents and soup on the same text.

    Args:
        models: Folders, Hub ids, modules or state dicts; the first is the donor of configuration,
            tokenizer and integer tensors.
        out: Folder to write; None keeps the result in memory.
        weights: One per model; equal ones if None.
        normalize: Divide the weights by their sum.
        choosing: How the point is chosen, where it is chosen by loss.
        output: How the checkpoint is written.
        data: What loss is measured on; None measures none. Choosing by loss wants it named.
        train_data: What BatchNorm statistics are estimated on, where a model has some, and what a
            path is fitted to, where one is asked for by its kind.
        compute: How models are run.
        sharpness: Of parents and output: `off`, `quick` or `full`, as in `geo.sharpness`.
        progress: Told what is going on.

    Raises:
        ArgumentError: Invalid weights, or no models.
        GeoError: With the reason and the remedy; nothing is half-written.

    Example:
        >>> import torch
        >>> a, b = {"w": torch.tensor([0.0, 2.0])}, {"w": torch.tensor([4.0, 2.0])}
        >>> soup([a, b], weights=[3, 1], data=None).state["w"]
        tensor([1., 2.])
    """
    if not models:
        raise ArgumentError("no models to merge", remedy="name at least one")
    _check_weights_are_used(choosing, weights, normalize=normalize)
    told, folder = progress or Silent(), None if out is None else Path(out)
    checkpoints = open_checkpoints(models)
    request = soup_request(
        models,
        checkpoints,
        folder,
        weights=weights,
        normalize=normalize,
        choosing=choosing,
        output=output,
        data=data,
        train_data=train_data,
        compute=compute,
        sharpness=sharpness,
        progress=told,
    )
    return merge(checkpoints, request, folder, told)


def soup_request(
    models: Sequence[Model],
    checkpoints: Sequence[Checkpoint],
    out: Path | None,
    *,
    weights: Sequence[float] | None = None,
    normalize: bool = True,
    choosing: Choosing = Choosing(),
    output: OutputConfig = OutputConfig(),
    data: Data = BUILTIN_TEXT,
    train_data: Data = None,
    compute: Compute = Compute(),
    sharpness: str = "quick",
    fitting: Fitting = Fitting(),
    fit_seed: int | None = None,
    progress: Progress,
) -> Request:
    """A soup as `soup` is asked for it, of models that are open; fits a path where one is named."""
    if choosing.needs_gradients:
        compute = replace(compute, dtype="float32")
    route = None
    if choosing.along is not None:
        require_one_process()
        check_early(checkpoints, output, out, choosing, data)  # a path may take long to fit
        fit = fitting_to(models, train_data, data, compute, progress, fitting, fit_seed or 0)
        route = _route(choosing.along, models, fit, train_data)
    checked = check_weights(len(models), weights)
    used = normalized(checked) if normalize else checked
    negative = tuple(f"weight {weight:g} is negative" for weight in checked if weight < 0)
    flags = [] if weights is None else [f"--weights={','.join(map(repr, checked))}"]
    flags += [] if normalize else ["--no-normalize"]
    settings = {"weights": list(checked), "normalize": normalize, **asdict(choosing)}
    return Request(
        "soup",
        Linear(used) if route is None else _on(choosing, route, checkpoints),
        settings,
        [*flags, *changed_flags(choosing)],
        output,
        data,
        compute,
        sharpness,
        negative,
        train_data if isinstance(train_data, EvalData) else None,
        choosing,
        route,
        fit_data=train_data,
        fitting=fitting,
        fit_seed=fit_seed,
    )


def _route(
    along: str,
    models: Sequence[Model],
    fit: Callable[[str], Route] | None,
    train_data: Data,
) -> Route | None:
    """The path between two models; of more, each finds its own when it joins."""
    if len(models) < PAIR:
        raise ArgumentError("a path lies between models, and there is one")
    if len(models) > PAIR and along in FITTED and train_data is not None:
        return None
    found = named_route(along, models, fit)
    return found if len(models) == PAIR else None


def _on(choosing: Choosing, route: Route, checkpoints: Sequence[Checkpoint]) -> Rule:
    """The rule of the path's point before one is chosen by loss."""
    from mergekit_geo.selection.legs import Leg
    from mergekit_geo.selection.picking import unchosen

    names = [checkpoint.name for checkpoint in checkpoints]
    return unchosen(choosing, Leg.between(route, names)).point.rule


def _check_weights_are_used(
    choosing: Choosing, weights: Sequence[float] | None, *, normalize: bool
) -> None:
    """Refuse weights that another setting would silently replace."""
    if choosing.method == "weighted" and weights is None:
        raise ArgumentError("a weighted soup needs weights", remedy="--weights .5,.3,.2")
    chosen = choosing.along or (choosing.method in {"greedy", "learned"} and choosing.method)
    if weights is not None and chosen:
        raise ArgumentError(
            f"weights are given, and {chosen} finds its own", remedy="leave --weights out"
        )
    if choosing.basin and not normalize:
        raise ArgumentError("a soup of one basin is normalised", remedy="leave --no-normalize out")
