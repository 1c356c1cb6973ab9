"""A measure of the loss around a model, declared; and what all measures of a model share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

import psutil
from torch import Tensor
from torch.nn import Module

from mergekit_geo.config.measures import SharpnessRadii
from mergekit_geo.curvature.gradients import GroupGradients
from mergekit_geo.curvature.hessian import Hessian
from mergekit_geo.curvature.lanczos import random_start
from mergekit_geo.curvature.levels import Level
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.curvature.sample import CurvatureSample
from mergekit_geo.evaluation.cache import NoCache, RecordCache
from mergekit_geo.modules.vectors import norm
from mergekit_geo.records import Record

Found = TypeVar("Found")
Kept = TypeVar("Kept", bound=Record)

SHARE = 0.5
"""Most of the free memory that a basis takes."""


@dataclass(frozen=True)
class Measure(Generic[Found]):
    """A quantity of the loss around a model; a line in the table of measures makes it one more.

    Tables and pictures show those fields of its record that are `Titled`.

    Attributes:
        key: Of what it finds, in the report.
        make: Finds it.
        record: Type of what it finds, which is kept for later runs; None where it is cheap, or
            made of records that are kept.
        when: Whether a level has it.
        cost: The most that it takes, in gradients of the whole sample.
    """

    key: str
    make: Callable[[LocalLoss], Found]
    record: type[Any] | None = None
    when: Callable[[Level], bool] = lambda level: True
    cost: Callable[[Level], float] = lambda level: 0.0


@dataclass(frozen=True, eq=False)
class LocalLoss:
    """The loss around one model; what its measures share is made once, when it is first asked for.

    Attributes:
        load: Gives the module, in evaluation mode and at least float32.
        sample: What the loss is measured on.
        level: How much is measured.
        radii: How far.
        seed: Of all random directions.
        cache: Where finished records are.
        spend: Told of the cost, in gradients of a batch.
    """

    load: Callable[[], Module]
    sample: CurvatureSample
    level: Level
    radii: SharpnessRadii
    seed: int
    cache: RecordCache | NoCache
    spend: Callable[[float], None] = lambda gradients: None
    _found: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def loss(self) -> MeanLoss:
        """The mean loss as a function of the weights."""
        return MeanLoss(self.load(), self.sample.measured.batches(), self.spend)

    @cached_property
    def gradients(self) -> GroupGradients:
        """The gradient, and those of groups of batches."""
        return GroupGradients.of(self.loss)

    @cached_property
    def hessian(self) -> Hessian:
        """The Hessian, by the level's method."""
        return Hessian(self.loss, self.level.method)

    def start(self) -> Tensor:
        """Start of Lanczos: a random direction plus the gradient, which favours large values."""
        weights, gradient = self.loss.weights, self.gradients.gradient
        start, length = random_start(weights.size, weights.dtype, self.seed), norm(gradient)
        if length > 0:
            start = start + gradient / length
        return start / norm(start)

    def fits(self, vectors: int) -> bool:
        """Whether memory holds so many vectors."""
        needed = vectors * self.loss.weights.size * self.loss.weights.dtype.itemsize
        return bool(needed < SHARE * psutil.virtual_memory().available)

    def of(self, measure: Measure[Found]) -> Found:
        """What a measure finds here, or found in an earlier run."""
        if measure.record is None:
            return measure.make(self)
        found: Found = self.kept(measure.key, measure.record, partial(measure.make, self))
        return found

    def kept(self, name: str, kind: type[Kept], make: Callable[[], Kept]) -> Kept:
        """A record that is made once, and kept for later runs.

        Args:
            name: Distinct among the records of a model.
            kind: Its type.
            make: Makes it.
        """
        if name not in self._found:
            key = f"{name} {self.level} {self.radii}"
            self._found[name] = self.cache.recall(key, kind, make)
        found: Kept = self._found[name]
        return found
