"""`geo.soup`: the weighted average of models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.reference import open_checkpoints
from mergekit_geo.checkpoints.reshape.reshape import reshaped
from mergekit_geo.commands._merge import merge, require_one_process
from mergekit_geo.commands._run import Work, command
from mergekit_geo.commands.by_layer_request import by_layer_request, refuse_beside_layer_weights
from mergekit_geo.commands.early import check_early
from mergekit_geo.commands.fitting import fitting_to
from mergekit_geo.commands.request import Request
from mergekit_geo.config.aim import AimConfig
from mergekit_geo.config.selection import PAIR, SelectionConfig
from mergekit_geo.config.training import FITTED
from mergekit_geo.connectivity.path_folder import named_path
from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.linear import Linear, check_weights, normalized
from mergekit_geo.outputs.kind import MERGED
from mergekit_geo.selection.segment import Segment, point_without_losses
from mergekit_geo.selection.selector import Selector
from mergekit_geo.specs.merges import SoupSpec

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.config.data import Data
    from mergekit_geo.connectivity.paths import ModelPath
    from mergekit_geo.geometry.rule import Rule


@command(SoupSpec)
def soup(asked: SoupSpec) -> Work:
    """Average models (Wortsman 2022), and measure parents and soup on the same text.

    Raises:
        ArgumentError: Invalid weights, or no models.
        GeoError: With the reason and the remedy; nothing is half-written.

    Example:
        >>> import torch
        >>> a, b = {"w": torch.tensor([0.0, 2.0])}, {"w": torch.tensor([4.0, 2.0])}
        >>> soup([a, b], weights=[3, 1], data=None).state["w"]
        tensor([1., 2.])
    """
    if not asked.models:
        raise ArgumentError("no models to merge", remedy="name at least one")
    _check_weights_are_used(asked)
    _check_layer_weights(asked)
    check_aim(asked.aiming, asked.choosing, len(asked.models))
    found = reshaped(open_checkpoints(asked.models), asked.reshape)
    checkpoints = found.checkpoints
    if asked.choosing.needs_gradients:
        asked = replace(asked, compute=replace(asked.compute, dtype="float32"))
    return Work(
        asked,
        lambda output: merge(
            checkpoints, soup_request(asked, checkpoints).with_reshaped(found), output
        ),
        MERGED,
        checkpoints,
    )


def soup_request(asked: SoupSpec, checkpoints: Sequence[Checkpoint]) -> Request:
    """A soup as it is asked for, of models that are open; fits a path where one is named."""
    config, weights, train_data = asked.choosing, asked.weights, asked.train_data
    path = None
    if config.along is not None:
        require_one_process()
        # a path may take long to fit
        check_early(checkpoints, asked, config)
        fit = fitting_to(checkpoints, asked, asked.fitting, seed=asked.fit_seed or 0)
        path = _path(config.along, checkpoints, fit, train_data)
    if asked.layer_weights is not None:
        return by_layer_request(asked, asked.layer_weights, checkpoints)
    checked = check_weights(len(asked.models), weights)
    used = normalized(checked) if asked.normalize else checked
    return Request(
        asked,
        Selector(
            Linear(used) if path is None else _on(config, path, checkpoints),
            config=config,
            path=path,
            fitting=asked.fitting,
            fit_seed=asked.fit_seed,
            aim=asked.aiming,
        ),
        {"weights": list(checked)},
        tuple(f"weight {weight:g} is negative" for weight in checked if weight < 0),
    )


def _check_layer_weights(asked: SoupSpec) -> None:
    """Refuse what would weigh models beside the weights by layer."""
    choosing = asked.choosing
    beside = {
        "--weights": asked.weights is not None,
        f"--method {choosing.method}": choosing.method not in {"uniform", "weighted"},
        "--along": choosing.along is not None,
        "--basin": choosing.basin,
        "--no-normalize": not asked.normalize,
    }
    if asked.layer_weights is not None:
        refuse_beside_layer_weights([name for name, given in beside.items() if given])


def _path(
    along: str, models: Sequence[Model], fit: Callable[[str], ModelPath] | None, train_data: Data
) -> ModelPath | None:
    """The path between two models; of more, each finds its own when it joins."""
    if len(models) < PAIR:
        raise ArgumentError("a path lies between models, and there is one")
    if len(models) > PAIR and along in FITTED and train_data is not None:
        return None
    found = named_path(along, models, fit)
    return found if len(models) == PAIR else None


def _on(config: SelectionConfig, path: ModelPath, checkpoints: Sequence[Checkpoint]) -> Rule:
    """The rule of the path's point before one is chosen by loss."""
    names = [checkpoint.name for checkpoint in checkpoints]
    return point_without_losses(config, Segment.between(path, names)).point.rule


def check_aim(aiming: AimConfig, choosing: SelectionConfig, count: int) -> None:
    """Refuse an aim where nothing is chosen by loss.

    Args:
        aiming: What was asked for.
        choosing: How points are chosen.
        count: Of the models.

    Raises:
        ArgumentError: It would have no effect.
    """
    if not aiming.is_default and not choosing.by_loss(count):
        raise ArgumentError(
            "--aim and --keep say by what points are chosen, and nothing is chosen by loss",
            remedy="--method greedy, --method learned, --basin or --along; of merge --sweep",
        )


def _check_weights_are_used(asked: SoupSpec) -> None:
    """Refuse weights that another setting would silently replace."""
    choosing, weights = asked.choosing, asked.weights
    if choosing.method == "weighted" and weights is None:
        raise ArgumentError("a weighted soup needs weights", remedy="--weights .5,.3,.2")
    chosen = choosing.along or (choosing.method in {"greedy", "learned"} and choosing.method)
    if weights is not None and chosen:
        raise ArgumentError(
            f"weights are given, and {chosen} finds its own", remedy="leave --weights out"
        )
    if choosing.basin and not asked.normalize:
        raise ArgumentError("a soup of one basin is normalised", remedy="leave --no-normalize out")
