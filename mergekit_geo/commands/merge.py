"""`geo.merge`: a merge by any method of the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.reference import name_of, open_checkpoints
from mergekit_geo.checkpoints.reshape.reshape import reshaped
from mergekit_geo.commands._merge import merge as merged
from mergekit_geo.commands._run import Work, command
from mergekit_geo.commands.by_layer_request import by_layer_request, refuse_beside_layer_weights
from mergekit_geo.commands.request import Request
from mergekit_geo.commands.soup import check_aim
from mergekit_geo.config.data import source_of
from mergekit_geo.config.selection import PAIR, SelectionConfig
from mergekit_geo.connectivity.paths import path
from mergekit_geo.errors import ArgumentError
from mergekit_geo.merging.methods import METHODS, anchors_of, rule_of
from mergekit_geo.outputs.kind import MERGED
from mergekit_geo.selection.selector import Selector
from mergekit_geo.selection.statistics import selector_of
from mergekit_geo.specs.merge import MergeSpec

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.geometry.rule import Rule

SWEPT = "wise-ft"
"""The method whose points are those of a line between two models."""


@command(MergeSpec)
def merge(asked: MergeSpec) -> Work:
    """Merge models by a method of the table, and measure parents and output on the same text.

    Parameters of the method, such as `weights`, `density` and `lambda_`, are keywords, too: one
    value for all models, or one a model, the base left out.

    Raises:
        ArgumentError: No such method, or a parameter that it does not take.
        GeoError: With the reason and the remedy; nothing is half-written.

    Example:
        >>> import torch
        >>> base = {"w": torch.tensor([0.0, 0.0])}
        >>> a, b = {"w": torch.tensor([2.0, 0.0])}, {"w": torch.tensor([0.0, 4.0])}
        >>> merge([a, b], method="task_arithmetic", base=base, lambda_=0.5, data=None).state["w"]
        tensor([1., 2.])
    """
    _check_layer_weights(asked)
    choosing = choosing_of(asked)
    check_aim(asked.aiming, choosing, PAIR)
    models, base = _with_base(asked)
    count = len(models)
    seed = source_of(asked.data).seed
    rule = rule_of(asked.method, count, base, seed=seed, **asked.given_parameters)
    ordered = [models[i] for i in anchors_of(count, base)]
    names = [name_of(model, position) for position, model in enumerate(ordered)]
    selector = _selector(asked, rule, choosing, names)
    found = reshaped(open_checkpoints(ordered), asked.reshape, has_base=base is not None)
    checkpoints = found.checkpoints
    named = None if base is None else checkpoints[0].name
    request = (
        Request(asked, selector, {"base": named})
        if asked.layer_weights is None
        else by_layer_request(asked, asked.layer_weights, checkpoints)
    ).with_reshaped(found)
    return Work(asked, lambda output: merged(checkpoints, request, output), MERGED, checkpoints)


def choosing_of(asked: MergeSpec) -> SelectionConfig:
    """How the point is chosen, which is by loss in a sweep alone.

    Args:
        asked: The options.

    Raises:
        ArgumentError: A sweep of another method, or beside a point that is named.
    """
    if asked.sweep is None:
        return SelectionConfig()
    if asked.method != SWEPT:
        raise ArgumentError(
            f"--sweep measures the points of --method {SWEPT}, found --method {asked.method}",
            remedy=f"--method {SWEPT} --sweep {asked.sweep}, or leave --sweep out",
        )
    if (t := asked.given_parameters.get("t")) is not None:
        raise ArgumentError(
            f"--t {t:g} names the point, and --sweep chooses it by loss",
            remedy="leave one of them out",
        )
    return SelectionConfig(along="linear", sweep=asked.sweep)


def _selector(
    asked: MergeSpec, rule: Rule, choosing: SelectionConfig, names: Sequence[str]
) -> Selector:
    """The point of the method, or how it is found: in a sweep, or by data of the models."""
    found = selector_of(METHODS[asked.method], rule, names, asked.train_data)
    if choosing.sweep is None:
        return found
    return Selector(rule, config=choosing, path=path("linear"), aim=asked.aiming)


def _check_layer_weights(asked: MergeSpec) -> None:
    """Refuse a method or a parameter beside weights by layer, which are those of a mean."""
    if asked.layer_weights is None:
        return
    method = [] if asked.method == "linear" else [f"--method {asked.method}"]
    given = [f"--{name.rstrip('_').replace('_', '-')}" for name in asked.given_parameters]
    base = [] if asked.base is None else ["--base"]
    refuse_beside_layer_weights([*method, *base, *given])


def _with_base(asked: MergeSpec) -> tuple[list[Model], int | None]:
    """The models, the base among them, and which it is."""
    models: list[Any] = list(asked.models)
    if not models:
        raise ArgumentError("no models to merge", remedy="name at least one")
    if asked.base is None:
        return models, None
    for position, model in enumerate(models):
        if model is asked.base or (isinstance(model, str) and str(asked.base) == model):
            return models, position
    return [asked.base, *models], 0
