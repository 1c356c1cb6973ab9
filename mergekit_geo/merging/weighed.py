"""Means of models whose every element counts as a Fisher says (Matena 2022, Daheim 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Coefficients, ModelWeights
from mergekit_geo.geometry.weighing import Weighing
from mergekit_geo.merging.by_data import ByData

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint


@dataclass(frozen=True)
class FisherSettings:
    """What a Fisher is an estimate from.

    Attributes:
        examples: At most so many.
        empirical: Whether labels are those of the data; if not, they are drawn from the model.
    """

    examples: int
    empirical: bool = False

    @property
    def labels(self) -> str:
        """Where the labels are from: `data` or `sampled`."""
        return "data" if self.empirical else "sampled"


@dataclass(frozen=True)
class Weighed(ByData):
    """A mean of models in which each element of each counts as its Fisher says.

    Without a prior (Matena 2022): sum w_i F_i a_i / sum w_i F_i. With one (Daheim 2024), the base:
    b + sum w_i (F_0 + F_i) v_i / (F_0 + sum w_i F_i). Products are elementwise.

    Attributes:
        name: Of the method.
        step: Weight of each model, the base left out.
        asks: Of what the Fishers are estimates.
        floor: Without a prior F_i is at least this: where all are below, it is the weighted mean.
            With one F_0 is so much more: where all are 0, it is task arithmetic.
        has_prior: Whether the first anchor is the base.
        statistics: The Fishers, tensors of the anchors' names; none before they are computed.
        keys: Their digests.

    Example:
        >>> Weighed("fisher", (1.0, 3.0), FisherSettings(8), 1e-6).weights
        (0.25, 0.75)
        >>> Weighed("uncertainty", (0.5, 0.5), FisherSettings(8), 1e-6, has_prior=True).weights
        (0.0, 0.5, 0.5)
    """

    name: str
    step: ModelWeights
    asks: FisherSettings
    floor: float
    has_prior: bool = False
    statistics: tuple[Checkpoint, ...] = field(default=(), repr=False)
    keys: tuple[str, ...] = ()
    needs_gram = False

    @property
    def weights(self) -> ModelWeights:
        """Weights of the anchors where all Fishers are alike."""
        if not self.has_prior:
            return tuple(weight / sum(self.step) for weight in self.step)
        factors = tuple(2 * weight / (1 + sum(self.step)) for weight in self.step)
        return (1 - sum(factors), *factors)

    @property
    def convex(self) -> ModelWeights:
        """The weights' positive parts, normalised."""
        return Linear(self.weights).convex

    @property
    def bounds(self) -> ModelWeights:
        """What no element's factors of the first anchor and of the differences exceed."""
        first = (1.0,) if self.has_prior else ()
        return (*first, *(max(weight, 1.0) if self.has_prior else 1.0 for weight in self.step))

    @cached_property
    def weighing(self) -> Weighing:
        """The weights as the kernel takes them."""
        step = (1.0, *self.step) if self.has_prior else self.step
        return Weighing(step, self.floor, self.has_prior)

    def coefficients(self, gram: Gram | None) -> Coefficients:
        """Coefficients as of equal Fishers, for the report: merging is elementwise."""
        return Coefficients(self.weights, self.name)

    def given(self, found: Sequence[Checkpoint], keys: Sequence[str]) -> Weighed:
        """The rule with the anchors' Fishers."""
        return replace(self, statistics=tuple(found), keys=tuple(keys))
