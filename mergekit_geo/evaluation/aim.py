"""The one number by which points are compared, of their losses on one set or several.

On a set s a point counts by d_s, its loss minus that of the best model there, both on the selection
half. With one set it counts by its loss, which orders points the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from mergekit_geo.config.aim import AimConfig
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.beside_best import counted_in
from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.statistics import paired_difference

if TYPE_CHECKING:
    from mergekit_geo.evaluation.points import PointEvaluator
    from mergekit_geo.tasks.losses import Indices, Losses


@dataclass(frozen=True)
class Aim:
    """Compares points by their losses on the selection half of every set; lower is better.

    Attributes:
        evaluator: Where losses are measured: that of the first set.
        config: What is minimised, and what is kept.

    Raises:
        ArgumentError: A set to keep that there is not.
    """

    evaluator: PointEvaluator
    config: AimConfig = AimConfig()
    _lost: dict[str, tuple[float, str]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.config.require_known(self.names)

    @property
    def names(self) -> list[str]:
        """Names of the sets."""
        return [one.study.name for one in self.evaluator.every]

    @property
    def documents(self) -> int:
        """Number of documents of all selection halves."""
        return sum(one.documents for one in self._every)

    @property
    def is_loss(self) -> bool:
        """Whether points count by their loss, as there is one set."""
        return len(self.evaluator.every) == 1

    def value(self, point: Point) -> float:
        """What a point counts; infinite where it loses a set that is to be kept."""
        found = self.evaluator.at_all(point)
        if (lost := self._loss_of_kept(found)) > 0:
            self._lost[point.key] = (lost, point.title)
            return math.inf
        return self.of(self._selected(found))

    def at_model(self, index: int) -> float:
        """What one of the models counts."""
        return self.value(Point.model(index, self.evaluator.names[index]))

    def of(self, losses: Sequence[Losses], rows: Sequence[Indices] | None = None) -> float:
        """The number of losses on every set, on the same examples of the best models' losses.

        Args:
            losses: A point's, one a set.
            rows: Examples that these are of; the selection halves if None.
        """
        if self.is_loss:
            return losses[0].mean
        return self.combined(self.differences(losses, rows))

    def differences(
        self, losses: Sequence[Losses], rows: Sequence[Indices] | None = None
    ) -> list[float]:
        """d_s of every set."""
        best = self._least
        if rows is not None:
            best = [one.best.take(each).mean for one, each in zip(self._every, rows, strict=True)]
        return [
            (found.mean - least) / (least if self.is_relative else 1.0)
            for found, least in zip(losses, best, strict=True)
        ]

    def combined(self, differences: Sequence[float]) -> float:
        """One number of the d_s of every set."""
        return self.config.number_of(differences, self.weights)

    @property
    def weights(self) -> list[float]:
        """Shares of the sets in the mean; they sum to one."""
        by_weight = self.config.aim == "weighted"
        found = [one.study.weight if by_weight else 1.0 for one in self._every]
        return [weight / sum(found) for weight in found]

    @cached_property
    def scales(self) -> list[float]:
        """What the losses of every set are divided by."""
        return self._least if self.is_relative else [1.0] * len(self._every)

    @cached_property
    def _least(self) -> list[float]:
        """Loss of the best model of every set on the selection half."""
        return [one.best.take(one.split.selection).mean for one in self._every]

    @cached_property
    def is_relative(self) -> bool:
        """Whether sets count in unlike units, so that d_s is a share of the best model's loss."""
        return len({_unit(one) for one in self._every}) > 1

    @property
    def text(self) -> str:
        """What is minimised, in words; empty with one set."""
        if self.is_loss:
            return ""
        over = f"over {', '.join(self.names)} of the loss minus that of the best model there"
        share = ", as a share of it (the sets count in unlike units)" if self.is_relative else ""
        kept = f"; keeping {', '.join(self.config.keep)}" if self.config.keep else ""
        words: Mapping[str, str] = {"mean": "mean", "worst": "maximum", "weighted": "weighted mean"}
        return f"{words[self.config.aim]} {over}{share}{kept}"

    def require_kept(self, value: float) -> None:
        """Refuse what was chosen where nothing that was tried keeps all that is to be kept.

        Args:
            value: Of what was chosen.

        Raises:
            DataError: It names the least bad point that was tried.
        """
        if value < math.inf or not self._lost:
            return
        least, title = min(self._lost.values())
        raise DataError(
            f"nothing that was tried keeps {' and '.join(self.config.keep)}; the least bad, "
            f"{title}, is significantly worse by {least:.4f}",
            remedy="leave --keep out, or keep fewer sets",
        )

    @property
    def _every(self) -> tuple[PointEvaluator, ...]:
        return self.evaluator.every

    def _selected(self, found: Sequence[Losses]) -> list[Losses]:
        pairs = zip(self._every, found, strict=True)
        return [losses.take(one.split.selection) for one, losses in pairs]

    def _loss_of_kept(self, found: Sequence[Losses]) -> float:
        """The largest significant rise of the loss on sets that are to be kept; 0 without any."""
        rises = [0.0]
        for one, losses in zip(self._every, found, strict=True):
            if one.study.name in self.config.keep:
                rows = one.split.selection
                rise = paired_difference(losses.take(rows), one.best.take(rows)).estimate
                rises.append(rise.number if rise.low is not None and rise.low > 0 else 0.0)
        return max(rises)


def _unit(evaluator: PointEvaluator) -> str:
    """What losses count in: nats per token, byte or example, or squared errors."""
    objective = evaluator.objective
    if not isinstance(objective, TaskObjective):
        return ""
    return counted_in(objective.task.unit, objective.task.name)
