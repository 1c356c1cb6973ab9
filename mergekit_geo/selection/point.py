"""Points of weight space that a merge goes through, and the segments between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.config.selection import PAIR
from mergekit_geo.connectivity.paths import ModelPath
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.onward import onward
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.blend import Blend
from mergekit_geo.tasks.losses import Losses


@dataclass(frozen=True)
class Point:
    """A merge of models, and of the bends of the paths that led to it.

    Attributes:
        rule: Over models, then bends.
        title: What it is, such as `a + b`.
        key: What its losses are known by.
        bends: Anchors beside the models.
        models: Indices of those that are in it, in the order they joined.
    """

    rule: Rule
    title: str
    key: str
    bends: tuple[Checkpoint, ...] = ()
    models: tuple[int, ...] = ()

    @classmethod
    def of_model(cls, index: int, names: Sequence[str]) -> Point:
        """The point at a model's own weights."""
        weights = tuple(float(i == index) for i in range(len(names)))
        return cls(Linear(weights), names[index], f"model {index}", (), (index,))

    def blend(self, models: Sequence[Checkpoint], dtype: str | None = None) -> Blend:
        """The point as a blend of models and bends."""
        return Blend((*models, *self.bends), self.rule, dtype)

    def losses(self, evaluator: PointEvaluator, title: str = "") -> Losses:
        """Losses at the point, measured once, with a title for the progress."""
        if len(self.models) == 1:
            return evaluator.at_model(self.models[0])
        return evaluator.at(title or self.title, self.blend(evaluator.anchors), self.key)


@dataclass(frozen=True)
class Segment:
    """A path from a point to a model.

    Attributes:
        start: The point at t = 0.
        target: Index of the model at t = 1.
        route: The path.
        names: Of all models.
    """

    start: Point
    target: int
    route: ModelPath
    names: tuple[str, ...]

    @classmethod
    def between(cls, route: ModelPath, names: Sequence[str]) -> Segment:
        """The segment from the first of two models to the other."""
        return cls(Point.of_model(0, names), 1, route, tuple(names))

    @property
    def title(self) -> str:
        """The names of its ends."""
        return f"{self.start.title} + {self.names[self.target]}"

    def at(self, t: float) -> Point:
        """The point at t."""
        return self._point(self.route.rule(t), f"{t!r}")

    def mean(self, count: int) -> Point:
        """The mean of `count` points at even distances in t, ends included.

        Raises:
            ArgumentError: The path's coefficients depend on the tensors.
        """
        rules = [self.route.rule(i / (count - 1)) for i in range(count)]
        if any(rule.needs_gram for rule in rules):
            raise ArgumentError(
                f"the mean of points along {self.route.name} is no one rule",
                remedy="--along linear",
            )
        columns = zip(*(rule.weights for rule in rules), strict=True)
        weights = tuple(sum(column) / count for column in columns)
        name = f"mean of {self.route.name}"
        return self._point(Linear(weights, branch=name, name=name), f"mean of {count}")

    def losses(self, evaluator: PointEvaluator, t: float) -> Losses:
        """Losses at position t of the segment, each measured once."""
        if len(self.start.models) == 1:
            return evaluator.between(self.start.models[0], self.target, self.route, t)
        if t in (0.0, 1.0):
            return evaluator.at_model(self.target) if t else self.start.losses(evaluator)
        return self.at(t).losses(evaluator, f"{self.title}, {self.route.name}, t = {t:.3f}")

    def _point(self, step: Rule, place: str) -> Point:
        alone = len(self.names) == PAIR and self.start.models == (0,)
        rule = step if alone else onward(self.start.rule, step, self.target)
        key = f"{self.start.key} -> {self.target} {self.route.key} {place}"
        return Point(
            rule, self.title, key, (*self.start.bends, *self.route.bends),
            (*self.start.models, self.target),
        )  # fmt: skip
