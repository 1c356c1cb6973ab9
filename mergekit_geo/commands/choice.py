"""The point that a merge takes: asked for outright, or chosen by loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.commands.evidence import measurements
from mergekit_geo.commands.request import Request
from mergekit_geo.config.data import BUILTIN
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.source import source_of
from mergekit_geo.evaluation.study import Study
from mergekit_geo.selection.choose import Chosen, choose
from mergekit_geo.selection.config import evaluations

if TYPE_CHECKING:
    from mergekit_geo.evaluation.points import PointEvaluator
    from mergekit_geo.evaluation.source import Data
    from mergekit_geo.selection.along import PathTo
    from mergekit_geo.selection.config import SelectionConfig


def check_choosing(choosing: SelectionConfig, count: int, data: Data) -> None:
    """Refuse to choose by loss on the built-in text, unless it was named.

    Args:
        choosing: How the point is chosen.
        count: Of the models.
        data: As asked for.

    Raises:
        ArgumentError: It would be chosen on the built-in text.
    """
    if choosing.by_loss(count) and source_of(data).is_default:
        raise ArgumentError(
            "a model chosen by loss would be tuned to the built-in text",
            remedy=f"give held-out data with --data, or name the built-in text: --data {BUILTIN}",
        )


def chosen_point(study: Study, request: Request) -> tuple[Chosen, PointEvaluator | None]:
    """The point asked for, or the one that loss chooses, and where that was measured."""
    anchors, choosing = study.anchors, request.choosing
    if not choosing.by_loss(len(anchors)):
        return _asked_for(anchors, request), None
    from mergekit_geo.evaluation.points import PointEvaluator

    segments = 0 if choosing.along is None else len(anchors) - 1
    count = evaluations(choosing, len(anchors)) + measurements(len(anchors), segments)
    evaluator = PointEvaluator.open(study, count, refresh_models=False)
    weights, route_to = request.rule.weights, None
    if choosing.along is not None:
        route_to = _route_to(choosing.along, request, evaluator)
    dtype = request.output.stored_dtype
    return choose(choosing, weights, evaluator, route_to, dtype), evaluator


def _asked_for(anchors: Sequence[Checkpoint], request: Request) -> Chosen:
    """The point of a merge that nothing is chosen for by loss."""
    if request.route is None:
        return Chosen(request.rule, request.rules)
    from mergekit_geo.selection.point import Segment
    from mergekit_geo.selection.selected_point import SelectedPoint, point_without_losses

    segment = Segment.between(request.route, [anchor.name for anchor in anchors])
    taken = (
        point_without_losses(request.choosing, segment)
        if request.t is None
        else SelectedPoint(segment, segment.at(request.t), request.t)
    )
    return Chosen(request.rule, bends=request.route.bends, segments=(taken,))


def _route_to(along: str, request: Request, evaluator: PointEvaluator) -> PathTo:
    """The one path between two models, or each that a further model joins along."""
    from mergekit_geo.selection.routes import routes

    if request.route is not None:
        only = request.route
        return lambda point, target: only
    return routes(along, evaluator, request.fitting, request.fit_seed)
