"""How much of the rise from a model to a mean of two each group of its tensors carries.

Two answers, one for each end of the way. Leave-one-in: the model with one group at the mean, minus
the model. Leave-one-out: the mean, minus the mean with that group back at the model. Where groups
do not interact both are the same, and add up to the rise; else neither has to.

Legend: n examples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.layer_groups import by_depth, by_kind, joined
from mergekit_geo.config.measures import LAYER_BLOCKS
from mergekit_geo.connectivity.paths import path
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.evaluation.statistics import estimate, estimate_ratio, mean_loss
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend, Role
from mergekit_geo.records.layers import Division, GroupEntry, LayersEntry
from mergekit_geo.records.losses import Estimate
from mergekit_geo.tasks.losses import Floats, Indices

MIDPOINT = 0.5

ModelWeights = tuple[float, float]
"""Weights of the two models."""


@dataclass(frozen=True)
class LayerGroup:
    """Tensors that move together.

    Attributes:
        name: Such as `layers 0-3` or `attention`.
        division: Whether it is one of the groups by depth or by kind of module.
        tensors: Their names.
        parameters: Elements in them.
    """

    name: str
    division: Division
    tensors: tuple[str, ...]
    parameters: int


def groups_of(models: Sequence[Checkpoint], most: int = LAYER_BLOCKS) -> list[LayerGroup]:
    """Groups by depth, then by kind, of the tensors that a merge of models averages.

    Args:
        models: Under the same names.
        most: Blocks of consecutive layers.
    """
    blend = Blend(tuple(models), Linear((1.0,) * len(models)))
    donor = blend.donor
    names = [name for name in donor.tensors if blend.role(name) is not Role.DONATED]
    divisions: list[tuple[Division, dict[str, tuple[str, ...]]]] = [
        ("depth", by_depth(names, donor.config, most)),
        ("kind", by_kind(names, donor.config)),
    ]
    return [
        LayerGroup(title, division, tensors, sum(donor.tensors[name].count for name in tensors))
        for division, groups in divisions
        for title, tensors in groups.items()
    ]


@dataclass(frozen=True)
class LayerMoves:
    """Points between two models at which groups of tensors are elsewhere than the rest.

    Attributes:
        names: Of the two models.
        groups: That move.
        t: Of the mean, on the straight line from the first model to the second.
    """

    names: tuple[str, ...]
    groups: tuple[LayerGroup, ...]
    t: float = MIDPOINT

    @property
    def mean(self) -> ModelWeights:
        """Weights of the mean."""
        return (1 - self.t, self.t)

    @property
    def at_mean(self) -> Point:
        """All tensors at the mean."""
        return path("linear").point((0, 1), self.names, self.t)

    def of(self, model: int) -> Point:
        """All tensors at a model."""
        return Point.model(model, self.names[model])

    def into(self, model: int, group: LayerGroup) -> Point:
        """A model with one group at the mean: leave-one-in."""
        title = f"{self.names[model]}, {group.name} at the mean"
        return _point(title, alone(model), [(group, self.mean)])

    def back(self, given: Sequence[tuple[LayerGroup, int]]) -> Point:
        """The mean with groups back at a model: leave-one-out, where it is one.

        Args:
            given: Groups, and the model of each.
        """
        own = [(name, [g.name for g, j in given if j == i]) for i, name in enumerate(self.names)]
        moved = ", ".join(f"{joined(groups)} of {name}" for name, groups in own if groups)
        return _point(f"mean, {moved}", self.mean, [(one, alone(i)) for one, i in given])

    def measurements(self, models: int = 1) -> int:
        """Number of losses that all moves take, for so many models that groups go back to."""
        distinct = {frozenset(group.tensors) for group in self.groups}
        return 1 + 2 * len(distinct) * models


def alone(model: int) -> ModelWeights:
    """Weights of one of two models by itself."""
    return (1.0, 0.0) if model == 0 else (0.0, 1.0)


def _point(
    title: str, rest: ModelWeights, moved: Sequence[tuple[LayerGroup, ModelWeights]]
) -> Point:
    """The place where groups have weights of their own, and all else those of the rest."""
    weights = {name: own for group, own in moved for name in group.tensors}
    known = hashlib.sha256(repr((rest, sorted(weights.items()))).encode()).hexdigest()[:32]
    rules = {name: Linear(own) for name, own in weights.items()}
    return Point(Linear(rest), title, f"layers {known}", rules=rules)


@dataclass(frozen=True)
class Rises:
    """Rises of the loss, example by example.

    Attributes:
        evaluator: Where they were measured.
        moves: Between the models.
        better: Index of the model from which the loss rises.
    """

    evaluator: PointEvaluator
    moves: LayerMoves
    better: int

    @classmethod
    def of_better(cls, evaluator: PointEvaluator, moves: LayerMoves) -> Rises:
        """Rises from the model that is better on the selection half, yet to be measured."""
        half = evaluator.split.selection
        first, second = (evaluator.at_model(i).take(half).mean for i in (0, 1))
        return cls(evaluator, moves, int(second < first))

    @classmethod
    def measured(cls, evaluator: PointEvaluator, moves: LayerMoves) -> Rises:
        """Measure every move from the model that is better on the selection half."""
        (found,) = cls.on_all(replace(evaluator, further=()), moves)
        return found

    @classmethod
    def on_all(cls, evaluator: PointEvaluator, moves: LayerMoves) -> list[Rises]:
        """Measure the rises on every set, each from the model that is better there."""
        found = [cls.of_better(one, moves) for one in evaluator.every]
        for better in dict.fromkeys(rises.better for rises in found):
            for point in cls(evaluator, moves, better).points():
                evaluator.at_all(point)
        return found

    def points(self) -> Iterator[Point]:
        """All that is measured."""
        yield self.moves.at_mean
        for group in self.moves.groups:
            yield self.moves.into(self.better, group)
            yield self.moves.back([(group, self.better)])

    @property
    def whole(self) -> Floats:
        """(n,) loss at the mean minus the better model's."""
        return self._loss(self.moves.at_mean) - self._loss(self.moves.of(self.better))

    def into(self, group: LayerGroup) -> Floats:
        """(n,) rise of leave-one-in."""
        moved = self.moves.into(self.better, group)
        return self._loss(moved) - self._loss(self.moves.of(self.better))

    def back(self, group: LayerGroup) -> Floats:
        """(n,) rise of leave-one-out."""
        moved = self.moves.back([(group, self.better)])
        return self._loss(self.moves.at_mean) - self._loss(moved)

    def _loss(self, point: Point) -> Floats:
        return self.evaluator.at(point).loss

    def estimate(self, values: Floats, rows: Indices) -> Estimate:
        """Mean of a number an example over some of them."""
        examples = self.evaluator.at_model(0).take(rows)
        return estimate(values[rows], examples.weight, examples.document)

    def share(self, values: Floats, rows: Indices) -> Estimate | None:
        """Mean of values as a share of the whole rise; None where that is not significant."""
        examples = self.evaluator.at_model(0).take(rows)
        return estimate_ratio(values[rows], self.whole[rows], examples.weight, examples.document)

    def entry(self, name: str = "") -> LayersEntry:
        """What the report half says.

        Args:
            name: Of the evaluation set, where there are several.
        """
        rows, names = self.evaluator.split.report, self.moves.names
        found = self.evaluator.at_model(0).take(rows)
        return LayersEntry(
            set=name,
            better=names[self.better],
            other=names[1 - self.better],
            weights=list(self.moves.mean),
            rise=self.estimate(self.whole, rows),
            groups=[self._entry(group, rows) for group in self.moves.groups],
            documents=mean_loss(found).documents,
        )

    def _entry(self, group: LayerGroup, rows: Indices) -> GroupEntry:
        into, back = self.into(group), self.back(group)
        return GroupEntry(
            group=group.name,
            division=group.division,
            tensors=len(group.tensors),
            parameters=group.parameters,
            rise_in=self.estimate(into, rows),
            rise_out=self.estimate(back, rows),
            share_in=self.share(into, rows),
            share_out=self.share(back, rows),
        )
