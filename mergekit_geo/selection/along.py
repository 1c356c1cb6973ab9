"""Merges along paths: a point between two models, or members that join one at a time."""

from __future__ import annotations

from mergekit_geo.config.selection import PAIR, SelectionConfig
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.records.merge import SelectionEntry
from mergekit_geo.selection.chain import Joined, join
from mergekit_geo.selection.segment import PathTo, Segment, SelectedPoint
from mergekit_geo.selection.selected_point import selected_point
from mergekit_geo.selection.selector import Selected


def along(config: SelectionConfig, evaluator: PointEvaluator, path_to: PathTo) -> Selected:
    """Select a point of the path between two models, or of a chain of paths through more.

    Args:
        config: Which point of each path.
        evaluator: Where losses are measured; its anchors are the models.
        path_to: Gives the paths.
    """
    if len(evaluator.anchors) > PAIR:
        return _joined(config, evaluator, path_to)
    names = evaluator.names
    segment = Segment.between(path_to(Point.model(0, names[0]), 1), names)
    found = selected_point(config, segment, evaluator)
    entry = SelectionEntry(
        method=_method(config, segment),
        chosen=found.place,
        documents=evaluator.documents,
        steps=[(f"t = {t:.4f}", loss) for t, loss in found.tried.items()],
        sharpness=_compared(found),
    )
    return Selected(found.point, entry, evaluator.split, (found,))


def _joined(config: SelectionConfig, evaluator: PointEvaluator, path_to: PathTo) -> Selected:
    rows, names = evaluator.split.selection, evaluator.names
    taken: dict[str, SelectedPoint] = {}

    def reach(point: Point, index: int) -> tuple[Point, float]:
        before = taken.get(point.key)
        members = before.segment.joined if before else point.models
        assert members is not None
        segment = Segment(point, members, index, path_to(point, index), names)
        found = selected_point(config, segment, evaluator)
        taken[found.point.key] = found
        return found.point, evaluator.at(found.measured).take(rows).mean

    losses = [evaluator.at_model(i).take(rows).mean for i in range(len(names))]
    tried = join(losses, lambda index: Point.model(index, names[index]), reach)
    kept = [step.point for step in tried if step.kept]
    segments = tuple(taken[point.key] for point in kept[1:])
    entry = SelectionEntry(
        method="members joined one at a time, "
        + _method(config, next(iter(taken.values())).segment),
        chosen=" then ".join([kept[0].title, *map(_joining, segments)]),
        documents=evaluator.documents,
        steps=[_step(step, taken) for step in tried],
        sharpness=[entry for found in taken.values() for entry in _compared(found)],
    )
    return Selected(kept[-1].over_all(len(names)), entry, evaluator.split, segments)


def _method(config: SelectionConfig, segment: Segment) -> str:
    return f"{config.pick or 'best'} along {segment.path.name}"


def _joining(found: SelectedPoint) -> str:
    return f"{found.segment.ends[1]} ({found.place})"


def _step(step: Joined[Point], taken: dict[str, SelectedPoint]) -> tuple[str, float]:
    found = taken.get(step.point.key)
    return f"{found.segment.title}, {found.place}" if found else step.point.title, step.loss


def _compared(found: SelectedPoint) -> list[tuple[str, float]]:
    return [(f"{found.segment.title}, t = {t:.4f}", x) for t, x in sorted(found.sharpness.items())]
