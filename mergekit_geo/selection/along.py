"""Merges along paths: a point between two models, or members that join one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mergekit_geo.config.selection import PAIR, SelectionConfig
from mergekit_geo.connectivity.paths import ModelPath
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.selection.chain import Joined, join
from mergekit_geo.selection.point import Point, Segment
from mergekit_geo.selection.selected_point import SelectedPoint, selected_point

PathTo = Callable[[Point, int], ModelPath]
"""The path from a point to a model, fitted first if it has to be."""


@dataclass(frozen=True)
class PathChoice:
    """What was chosen.

    Attributes:
        point: Where it stands.
        method: Such as `best along linear`.
        chosen: The choice in words.
        steps: What was tried, and its loss on the selection half.
        segments: That were taken.
        sharpness: λ_max at places that were compared by it, segment by segment.
    """

    point: Point
    method: str
    chosen: str
    steps: list[tuple[str, float]]
    segments: tuple[SelectedPoint, ...]
    sharpness: list[tuple[str, float]] = field(default_factory=list)


def along(choosing: SelectionConfig, evaluator: PointEvaluator, route_to: PathTo) -> PathChoice:
    """Choose a point of the path between two models, or of a chain of paths through more.

    Args:
        choosing: Which point of each path.
        evaluator: Where losses are measured; its anchors are the models.
        route_to: Gives the paths.
    """
    names = tuple(anchor.name for anchor in evaluator.anchors)
    if len(names) == PAIR:
        segment = Segment.between(route_to(Point.of_model(0, names), 1), names)
        found = selected_point(choosing, segment, evaluator)
        steps = [(f"t = {t:.4f}", loss) for t, loss in found.tried.items()]
        return PathChoice(
            found.point,
            _method(choosing, segment),
            _place(found),
            steps,
            (found,),
            _compared(found),
        )
    return _joined(choosing, evaluator, route_to, names)


def _joined(
    choosing: SelectionConfig,
    evaluator: PointEvaluator,
    route_to: PathTo,
    names: tuple[str, ...],
) -> PathChoice:
    rows = evaluator.split.selection
    taken: dict[str, SelectedPoint] = {}

    def reach(point: Point, index: int) -> tuple[Point, float]:
        segment = Segment(point, index, route_to(point, index), names)
        found = selected_point(choosing, segment, evaluator)
        taken[found.point.key] = found
        there = (
            found.point.losses(evaluator) if found.t is None else segment.losses(evaluator, found.t)
        )
        return found.point, there.take(rows).mean

    losses = [evaluator.at_model(i).take(rows).mean for i in range(len(names))]
    tried = join(losses, lambda index: Point.of_model(index, names), reach)
    kept = [step for step in tried if step.kept]
    segments = tuple(taken[step.point.key] for step in kept[1:])
    segment = next(iter(taken.values())).segment
    return PathChoice(
        kept[-1].point,
        f"members joined one at a time, {_method(choosing, segment)}",
        " then ".join([kept[0].point.title, *map(_joining, segments)]),
        [_step(step, taken) for step in tried],
        segments,
        [entry for found in taken.values() for entry in _compared(found)],
    )


def _method(choosing: SelectionConfig, segment: Segment) -> str:
    return f"{choosing.pick or 'best'} along {segment.route.name}"


def _place(found: SelectedPoint) -> str:
    return "mean" if found.t is None else f"t = {found.t:.4f}"


def _joining(found: SelectedPoint) -> str:
    return f"{found.segment.names[found.segment.target]} ({_place(found)})"


def _step(step: Joined[Point], taken: dict[str, SelectedPoint]) -> tuple[str, float]:
    found = taken.get(step.point.key)
    return step.point.title + (f", {_place(found)}" if found else ""), step.loss


def _compared(found: SelectedPoint) -> list[tuple[str, float]]:
    return [(f"{found.segment.title}, t = {t:.4f}", x) for t, x in sorted(found.sharpness.items())]
