"""The point that a merge takes: asked for outright, or chosen by loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.commands.evidence import measurements
from mergekit_geo.config.data import BUILTIN, source_of
from mergekit_geo.config.selection import SelectionConfig, evaluations
from mergekit_geo.config.training import CurveFitConfig
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.study import Study
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.selection.choose import Chosen, choose

if TYPE_CHECKING:
    from mergekit_geo.config.data import Data
    from mergekit_geo.connectivity.paths import ModelPath
    from mergekit_geo.evaluation.points import PointEvaluator
    from mergekit_geo.selection.along import PathTo


@dataclass(frozen=True)
class Choice:
    """The point that a merge takes, or how loss chooses it.

    Attributes:
        rule: Of the merge, where loss does not find another one.
        rules: By tensor, where one has a rule of its own.
        choosing: How it is chosen, where it is chosen by loss.
        route: The path that a point of is taken, where one is.
        t: The point of it that is asked for, where one is.
        fitting: How paths are fitted when they are needed.
        fit_seed: Of the fits; that of the data if None.
    """

    rule: Rule
    rules: Mapping[str, Rule] = field(default_factory=dict)
    choosing: SelectionConfig = SelectionConfig()
    route: ModelPath | None = None
    t: float | None = None
    fitting: CurveFitConfig = CurveFitConfig()
    fit_seed: int | None = None


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


def chosen_point(
    study: Study, choice: Choice, dtype: str | None = None
) -> tuple[Chosen, PointEvaluator | None]:
    """The point asked for, or the one that loss chooses, and where that was measured.

    Args:
        study: The models, and what loss is measured on.
        choice: What is asked for.
        dtype: Of the output, as safetensors names it; the first model's own if None.
    """
    anchors, choosing = study.anchors, choice.choosing
    if not choosing.by_loss(len(anchors)):
        return _asked_for(anchors, choice), None
    from mergekit_geo.evaluation.points import PointEvaluator

    segments = 0 if choosing.along is None else len(anchors) - 1
    count = evaluations(choosing, len(anchors)) + measurements(len(anchors), segments)
    evaluator = PointEvaluator.open(study, count, refresh_models=False)
    route_to = None if choosing.along is None else _route_to(choosing.along, choice, evaluator)
    return choose(choosing, choice.rule.weights, evaluator, route_to, dtype), evaluator


def _asked_for(anchors: Sequence[Checkpoint], choice: Choice) -> Chosen:
    """The point of a merge that nothing is chosen for by loss."""
    if choice.route is None:
        return Chosen(choice.rule, choice.rules)
    from mergekit_geo.selection.point import Segment
    from mergekit_geo.selection.selected_point import SelectedPoint, point_without_losses

    segment = Segment.between(choice.route, [anchor.name for anchor in anchors])
    taken = (
        point_without_losses(choice.choosing, segment)
        if choice.t is None
        else SelectedPoint(segment, segment.at(choice.t), choice.t)
    )
    return Chosen(choice.rule, bends=choice.route.bends, segments=(taken,))


def _route_to(along: str, choice: Choice, evaluator: PointEvaluator) -> PathTo:
    """The one path between two models, or each that a further model joins along."""
    from mergekit_geo.selection.routes import routes

    if choice.route is not None:
        only = choice.route
        return lambda point, target: only
    return routes(along, evaluator, choice.fitting, choice.fit_seed)
