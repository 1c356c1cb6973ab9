"""Merges along paths: a point between two models, or members that join one at a time.

Which point of a path is taken is told by loss, or by sharpness of those that are about as good.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mergekit_geo.config.selection import PAIR, SelectionConfig
from mergekit_geo.curvature.largest import lambda_max
from mergekit_geo.curvature.levels import LEVELS
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.evaluation.aim import Aim
from mergekit_geo.evaluation.batches import batches_of_rows, weighed
from mergekit_geo.evaluation.point import Point
from mergekit_geo.records.merge import SelectionEntry
from mergekit_geo.selection.chain import Joined, join
from mergekit_geo.selection.line import line_search, lowest, sharpness_near_best
from mergekit_geo.selection.segment import (
    PathTo,
    Segment,
    SelectedPoint,
    even,
    point_without_losses,
)
from mergekit_geo.selection.selector import Selected

if TYPE_CHECKING:
    from mergekit_geo.evaluation.objective import Batch

EVEN = even(11)
"""Positions searched for a flat point, beside those of the search for the best."""


def along(config: SelectionConfig, aim: Aim, path_to: PathTo) -> Selected:
    """Select a point of the path between two models, or of a chain of paths through more.

    Args:
        config: Which point of each path.
        aim: By which points are compared; the anchors of its evaluator are the models.
        path_to: Gives the paths.

    Raises:
        DataError: No point that was tried keeps the sets that are to be kept.
    """
    evaluator = aim.evaluator
    if len(evaluator.anchors) > PAIR:
        return _joined(config, aim, path_to)
    names = evaluator.names
    segment = Segment.between(path_to(Point.model(0, names[0]), 1), names)
    found = selected_point(config, segment, aim)
    aim.require_kept(aim.value(found.measured))
    entry = SelectionEntry(
        method=_method(config, segment),
        chosen=found.place,
        documents=aim.documents,
        aim=aim.text,
        steps=[(f"t = {t:.4f}", loss) for t, loss in found.tried.items()],
        sharpness=_compared(found),
    )
    return Selected(found.point, entry, evaluator.split, (found,))


def _joined(config: SelectionConfig, aim: Aim, path_to: PathTo) -> Selected:
    evaluator, names = aim.evaluator, aim.evaluator.names
    taken: dict[str, SelectedPoint] = {}

    def reach(point: Point, index: int) -> tuple[Point, float]:
        before = taken.get(point.key)
        members = before.segment.joined if before else point.models
        assert members is not None
        segment = Segment(point, members, index, path_to(point, index), names)
        found = selected_point(config, segment, aim)
        taken[found.point.key] = found
        return found.point, aim.value(found.measured)

    losses = [aim.at_model(i) for i in range(len(names))]
    tried = join(losses, lambda index: Point.model(index, names[index]), reach)
    kept = [step.point for step in tried if step.kept]
    aim.require_kept([step.loss for step in tried if step.kept][-1])
    segments = tuple(taken[point.key] for point in kept[1:])
    entry = SelectionEntry(
        method="members joined one at a time, "
        + _method(config, next(iter(taken.values())).segment),
        chosen=" then ".join([kept[0].title, *map(_joining, segments)]),
        documents=aim.documents,
        aim=aim.text,
        steps=[_step(step, taken) for step in tried],
        sharpness=[entry for found in taken.values() for entry in _compared(found)],
    )
    return Selected(kept[-1].over_all(len(names)), entry, evaluator.split, segments)


def _method(config: SelectionConfig, segment: Segment) -> str:
    if config.sweep is not None:
        return f"best of {config.sweep} points along {segment.path.name}"
    return f"{config.pick or 'best'} along {segment.path.name}"


def _joining(found: SelectedPoint) -> str:
    return f"{found.segment.ends[1]} ({found.place})"


def _step(step: Joined[Point], taken: dict[str, SelectedPoint]) -> tuple[str, float]:
    found = taken.get(step.point.key)
    return f"{found.segment.title}, {found.place}" if found else step.point.title, step.loss


def _compared(found: SelectedPoint) -> list[tuple[str, float]]:
    return [(f"{found.segment.title}, t = {t:.4f}", x) for t, x in sorted(found.sharpness.items())]


def selected_point(config: SelectionConfig, segment: Segment, aim: Aim) -> SelectedPoint:
    """The point that the settings ask for, chosen on the selection half where they say so."""
    if config.pick in {"midpoint", "mean"}:
        return point_without_losses(config, segment)

    def loss_of(t: float) -> float:
        return aim.value(segment.measured_at(t))

    if config.sweep is not None:
        places = even(config.sweep)
        tried = {t: loss_of(t) for t in places}
        t = lowest(tried)
        return SelectedPoint(segment, segment.at(t), t, tried, sweep=places)
    tried, sharpness = line_search(loss_of), {}
    if config.pick == "flattest":
        tried |= {t: loss_of(t) for t in EVEN if t not in tried}
        sharpness = sharpness_near_best(tried, _sharpness(segment, aim), tolerance=config.tolerance)
        tried = dict(sorted(tried.items()))
    t = lowest(sharpness or tried)
    return SelectedPoint(segment, segment.at(t), t, tried, sharpness)


def _sharpness(segment: Segment, aim: Aim) -> Callable[[float], float]:
    """λ_max at places of a segment, of the sets' mean loss on examples of the selection halves."""
    evaluator = aim.evaluator
    most = LEVELS["quick"].examples // len(evaluator.every)
    batches: list[Batch] = []
    for one, weight in zip(evaluator.every, aim.weights, strict=True):
        rows = one.split.selection
        rows = rows[:: max(1, len(rows) // most)]
        own = batches_of_rows(one.objective, rows, evaluator.live.model)
        batches += own if aim.is_loss else weighed(own, weight / one.at_model(0).weight[rows].sum())

    def sharpness_of(t: float) -> float:
        evaluator.go_to(segment.at(t))
        return lambda_max(MeanLoss(evaluator.live.model, batches), evaluator.study.seed)

    return sharpness_of
