"""The regression mean as a rule: linear layers by what their inputs' Gram matrices say."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import ModelWeights
from mergekit_geo.merging.by_data import ByData
from mergekit_geo.merging.whole import Made, Whole, no_tick

if TYPE_CHECKING:
    from torch import Tensor

ITEM = 8
"""Bytes of an element: all is float64."""

ROWS = 2048
"""Output features that are worked on at a time."""

MATRIX = 2


class LayerGrams(Protocol):
    """Gram matrices of the inputs of one model's linear layers."""

    @property
    def widths(self) -> Mapping[str, int]:
        """Number of input features of each layer that was called, by weight."""

    @property
    def by_column(self) -> frozenset[str]:
        """Weights that are stored (in, out), and not (out, in)."""

    def of(self, weight: str) -> Tensor:
        """XᵀX / n of a layer's inputs: (w, w) float32 on the CPU."""


@dataclass(frozen=True)
class Regression:
    """What Gram matrices go through before they weigh.

    Attributes:
        alpha: Factor of their off-diagonal entries: 1 is least squares, 0 weighs every input
            feature by its energy in each model.
        ridge: What holds the solution at the mean, as a share of the mean energy of a feature.
    """

    alpha: float = 0.9
    ridge: float = 0.0


PUBLISHED = Regression()


@dataclass(frozen=True)
class GramSettings:
    """What Gram matrices are made of.

    Attributes:
        examples: Of each model's data, at most.
        merge: How the layers before one are merged, where it is given what they make (RegMean++),
            with the weights of the models; None where it is given what the model's own make.
    """

    examples: int
    merge: tuple[Regression, ModelWeights] | None = None


@dataclass(frozen=True)
class RegMean(Whole, ByData):
    """A mean of models whose linear layers differ least from all in what they make of their inputs.

    Jin 2023, and layer by layer Nguyen 2025 (RegMean++). All other tensors are the weighted mean.

    Attributes:
        name: Of the method.
        step: Weight of each model.
        how: What the Gram matrices go through.
        asks: What they are made of.
        grams: Of each model; none before they are made.
        keys: Their digests.

    Example:
        >>> RegMean("regmean", (1.0, 3.0), Regression(), GramSettings(8)).weights
        (0.25, 0.75)
    """

    name: str
    step: ModelWeights
    how: Regression
    asks: GramSettings
    grams: tuple[LayerGrams, ...] = field(default=(), repr=False)
    keys: tuple[str, ...] = ()

    @property
    def weights(self) -> ModelWeights:
        """Weights of the models, which sum to one."""
        return tuple(weight / sum(self.step) for weight in self.step)

    @property
    def others(self) -> Linear:
        """The weighted mean."""
        return Linear(self.weights)

    def given(self, found: Sequence[LayerGrams], keys: Sequence[str]) -> RegMean:
        """The rule with the models' Gram matrices."""
        return replace(self, grams=tuple(found), keys=tuple(keys))

    def takes(self, name: str, info: TensorInfo) -> bool:
        """Whether every model has called a layer of this weight; before that, whether one could."""
        if not self.grams:
            return super().takes(name, info)
        return all(name in grams.widths for grams in self.grams)

    def memory(self, shape: tuple[int, ...], count: int) -> int:
        """Bytes of a weight's tensors, of their mean, and of five Gram matrices."""
        known = [side for side in shape if side in self._widths] or shape
        width = max(known)
        rows = math.prod(shape) // width
        return ITEM * ((count + 1) * rows * width + 3 * min(rows, ROWS) * width + 5 * width**2)

    def make(
        self, name: str, tensors: Sequence[Tensor], device: str, tick: Callable[[], None] = no_tick
    ) -> Made:
        """Solve the regression of one layer."""
        from mergekit_geo.merging.regression import regression_mean  # torch, which is there now

        turned = name in self.grams[0].by_column
        found = regression_mean(
            [tensor.T if turned else tensor for tensor in tensors],
            lambda number: self.grams[number].of(name).to(device),
            self.weights,
            self.how,
            tick,
        )
        weight = found.weight_vw.T.contiguous() if turned else found.weight_vw
        width = found.weight_vw.shape[1]
        partly = "" if found.rank == width else f": rank {found.rank} of {width}"
        return Made(weight, f"{self.name}{partly}", found.error)

    @cached_property
    def _widths(self) -> frozenset[int]:
        return frozenset(width for grams in self.grams for width in grams.widths.values())
