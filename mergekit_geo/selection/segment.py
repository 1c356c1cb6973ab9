"""Paths from a point of weight space to a model, and the point that a merge takes of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mergekit_geo.config.selection import PAIR, SelectionConfig
from mergekit_geo.connectivity.paths import ModelPath
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.point import Point
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.onward import onward
from mergekit_geo.geometry.rule import Rule

MIDPOINT = 0.5


def even(count: int) -> tuple[float, ...]:
    """Places at even distances, both ends among them.

    Example:
        >>> even(5)
        (0.0, 0.25, 0.5, 0.75, 1.0)
    """
    return tuple(i / (count - 1) for i in range(count))


PathTo = Callable[[Point, int], ModelPath]
"""The path from a point to a model, fitted first if it has to be."""


@dataclass(frozen=True)
class Segment:
    """A path from a point to a model.

    Attributes:
        start: The point at t = 0.
        members: Indices of the models that it is a merge of, in the order in which they joined.
        target: Index of the model at t = 1.
        path: The path.
        names: Of all models.
    """

    start: Point
    members: tuple[int, ...]
    target: int
    path: ModelPath
    names: tuple[str, ...]

    @classmethod
    def between(cls, path: ModelPath, names: Sequence[str]) -> Segment:
        """The segment from the first of two models to the other."""
        return cls(Point.model(0, names[0]), (0,), 1, path, tuple(names))

    @property
    def joined(self) -> tuple[int, ...]:
        """Indices of the models that its inner points are merges of."""
        return (*self.members, self.target)

    @property
    def ends(self) -> tuple[str, str]:
        """What stands at both ends."""
        return " + ".join(self.names[i] for i in self.members), self.names[self.target]

    @property
    def title(self) -> str:
        """The names of its ends."""
        return " + ".join(self.ends)

    def at(self, t: float) -> Point:
        """The point at t, as it is merged: over all models, whatever stands there."""
        return self._point(self.path.rule(t), f"t = {t:.3f}", f"{t!r}")

    def measured_at(self, t: float) -> Point:
        """The point at t, as it is measured: at the ends, what stands there; of two models, theirs.

        Losses between two models are thus known by one key, whoever asks for them.
        """
        if len(self.members) == 1:
            return self.path.point((self.members[0], self.target), self.names, t)
        if t in (0.0, 1.0):
            return Point.model(self.target, self.names[self.target]) if t else self.start
        return self.at(t)

    def mean(self, count: int) -> Point:
        """The mean of `count` points at even distances in t, ends included.

        Raises:
            ArgumentError: The path's coefficients depend on the tensors.
        """
        rules = [self.path.rule(i / (count - 1)) for i in range(count)]
        if any(rule.needs_gram for rule in rules):
            raise ArgumentError(
                f"the mean of points along {self.path.name} is no one rule", remedy="--along linear"
            )
        columns = zip(*(rule.weights for rule in rules), strict=True)
        weights = tuple(sum(column) / count for column in columns)
        name = f"mean of {self.path.name}"
        return self._point(Linear(weights, branch=name, name=name), "mean", f"mean of {count}")

    def _point(self, step: Rule, place: str, key: str) -> Point:
        start, count = self.start, len(self.names)
        alone = count == PAIR and self.members == (0,)
        return Point(
            step if alone else onward(start.over_all(count).rule, step, self.target),
            f"{self.title}, {self.path.name}, {place}",
            f"{start.key} -> {self.target} {self.path.key} {key}",
            extra=(*start.extra, *self.path.bends),
        )


@dataclass(frozen=True)
class SelectedPoint:
    """A point of a segment.

    Attributes:
        segment: The segment.
        point: The point, over all models.
        t: Its place; None for a mean of several.
        tried: Loss on the selection half of each place that was looked at.
        sharpness: λ_max there, of those that were compared by it.
        sweep: Places at even distances whose losses are reported.
    """

    segment: Segment
    point: Point
    t: float | None
    tried: Mapping[float, float] = field(default_factory=dict)
    sharpness: Mapping[float, float] = field(default_factory=dict)
    sweep: tuple[float, ...] = ()

    @property
    def place(self) -> str:
        """Where it is on the segment, in words."""
        return "mean" if self.t is None else f"t = {self.t:.4f}"

    @property
    def measured(self) -> Point:
        """The point as it is measured."""
        return self.point if self.t is None else self.segment.measured_at(self.t)


def point_without_losses(config: SelectionConfig, segment: Segment) -> SelectedPoint:
    """The point that needs no losses: the mean, or the midpoint.

    Raises:
        ArgumentError: The path's coefficients depend on the tensors, and the mean is asked for.
    """
    if config.pick == "mean":
        return SelectedPoint(segment, segment.mean(config.average_points), None)
    return SelectedPoint(segment, segment.at(MIDPOINT), MIDPOINT)
