"""Merging task vectors element by element: whose sign wins, and what divides the sum.

TIES, DARE, DELLA and Model Breadcrumbs are one rule with different settings, and SCE a near kin:
base + scale * sum_i f_i m_i (a_i - base) / sum_i w_i over the elements that are kept and have the
sign that the sum elects. Unlike other rules these cannot be written as coefficients over whole
tensors, so `merging.masked` streams them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Coefficients, ModelWeights
from mergekit_geo.geometry.sparsifiers import RANKED, Sparsifier, VarianceTopK

SMALLEST_SUM = 1e-7
"""A sum of magnitudes below which nothing is rescaled."""

SMALLEST_WEIGHT = 1e-8
"""A sum of weights below which nothing is divided by it."""

SMALLEST_SQUARES = 1e-6
"""A sum of mean squares below which SCE weighs all models the same."""


@dataclass(frozen=True)
class Sizes:
    """Sums over the elements of one task vector.

    Attributes:
        total: Of all magnitudes.
        kept: Of the magnitudes that are kept.
        squares: Of the squares that are kept.
        count: Number of elements, kept or not.
        shared: How many are kept that are kept of another task vector, too.
        alone: How many are kept that are kept of no other.
    """

    total: float
    kept: float
    squares: float
    count: int
    shared: int = 0
    alone: int = 0

    @property
    def is_finite(self) -> bool:
        """Whether no sum is beyond the range of what it was made in."""
        return math.isfinite(self.total + self.squares)

    def __add__(self, other: Sizes) -> Sizes:
        """Sums over this chunk and another together."""
        return Sizes(
            self.total + other.total, self.kept + other.kept,
            self.squares + other.squares, self.count + other.count,
            self.shared + other.shared, self.alone + other.alone,
        )  # fmt: skip


@dataclass(frozen=True)
class Sum:
    """How the kept elements of k task vectors become one.

    Attributes:
        factors: Of each task vector in the sum.
        votes: Of each in the sum whose sign an element must have to count; None if all count.
        weights: The sum of those that count divides; None divides by nothing.
        scale: Of the whole.
    """

    factors: ModelWeights
    votes: ModelWeights | None = None
    weights: ModelWeights | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Near:
    """How one task vector becomes steps that end after a distance, all elements alike.

    Attributes:
        reach: The distance.
    """

    reach: float


@dataclass(frozen=True)
class Joined:
    """How the kept elements of k task vectors become one: the mean where several are kept.

    Attributes:
        factors: Of each where it alone is kept.
    """

    factors: ModelWeights


How = Sum | Near | Joined
"""How the kept elements of task vectors become one."""


class Elementwise:
    """A rule by elements of the task vectors: which are kept, and how they are summed."""

    name: str
    seed: int
    needs_gram = False

    @property
    def sparsifiers(self) -> tuple[Sparsifier, ...]:
        """What is kept of each task vector."""
        raise NotImplementedError

    @property
    def weights(self) -> ModelWeights:
        """Weights of base and models, as if every element were kept."""
        raise NotImplementedError

    @property
    def needs_sizes(self) -> bool:
        """Whether `sum` depends on the sizes of what is kept."""
        raise NotImplementedError

    @property
    def needs_overlaps(self) -> bool:
        """Whether all that `sum` needs of sizes is what is kept of several task vectors."""
        return False

    def sum(self, sizes: Sequence[Sizes]) -> How:
        """The sum for one tensor, by the sizes of each task vector if they are needed."""
        raise NotImplementedError

    @property
    def convex(self) -> ModelWeights:
        """The weights' positive parts, normalised."""
        return Linear(self.weights).convex

    @property
    def densities(self) -> ModelWeights:
        """The share that is kept, of base and models."""
        return (1.0, *(each.density for each in self.sparsifiers))

    @property
    def passes(self) -> int:
        """How often tensors are read: to look for thresholds twice, to measure, and to write."""
        looks = any(isinstance(each.selection(1), RANKED) for each in self.sparsifiers)
        return (2 + self.needs_sizes if looks else 1) + 1

    def coefficients(self, gram: Gram | None) -> Coefficients:
        """Coefficients as if every element were kept, for the report: merging is elementwise."""
        return Coefficients(self.weights, self.name)


@dataclass(frozen=True)
class Masked(Elementwise):
    """base + scale * sum of kept and agreeing elements, each times its weight.

    Attributes:
        name: Of the method.
        step: Weight of each task vector; the anchors are the base, then the models.
        kept: What is kept of each.
        rescale: Give what is kept the sum of magnitudes that the whole had.
        elect: Only elements with the sign of the weighted sum count (TIES).
        normalize: Divide by the sum of the weights of what counts.
        scale: `lambda` in a recipe.
        seed: Of random masks.

    Raises:
        ArgumentError: The weights' sum overflows.

    Example:
        >>> from mergekit_geo.geometry.sparsifiers import TopK
        >>> rule = Masked("ties", (1.0, 1.0), (TopK(0.5), TopK(0.5)), elect=True)
        >>> rule.weights, rule.passes
        ((-1.0, 1.0, 1.0), 3)
    """

    name: str
    step: ModelWeights
    kept: tuple[Sparsifier, ...]
    rescale: bool = False
    elect: bool = False
    normalize: bool = False
    scale: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not math.isfinite(sum(map(abs, self.step))):
            raise ArgumentError("the weights are too large to be summed")

    @property
    def sparsifiers(self) -> tuple[Sparsifier, ...]:
        """What is kept of each task vector."""
        return self.kept

    @property
    def weights(self) -> ModelWeights:
        """Weights of base and models, as if every element were kept and all signs agreed."""
        divisor = _divisor(self.step) if self.normalize else 1.0
        scaled = tuple(self.scale * weight / divisor for weight in self.step)
        return (1.0 - sum(scaled), *scaled)

    @property
    def needs_sizes(self) -> bool:
        """Whether `sum` depends on the sizes of what is kept."""
        return self.rescale and any(each.density < 1 for each in self.sparsifiers)

    def sum(self, sizes: Sequence[Sizes]) -> Sum:
        """The sum for one tensor.

        Args:
            sizes: Of each task vector; not looked at unless `needs_sizes`.
        """
        factors = self.step
        if self.needs_sizes:
            factors = tuple(w * _growth(s) for w, s in zip(self.step, sizes, strict=True))
        if self.elect:
            return Sum(factors, factors, self.step if self.normalize else None, self.scale)
        divisor = _divisor(self.step) if self.normalize else 1.0
        return Sum(tuple(factor / divisor for factor in factors), scale=self.scale)


@dataclass(frozen=True)
class Sce(Elementwise):
    """Select, calculate, erase (SCE: Wan 2024).

    Elements where the models differ most are selected, each task vector weighs by the mean square
    of what is selected of it, and elements against the sign of the sum are erased. As in mergekit
    the weights do not enter the vote, and are equal where the mean squares sum to less than 1e-6,
    which is to say where models moved by less than about 0.001; the paper has no such limit.

    Attributes:
        count: Number of models, the base left out.
        select: The share that is selected.

    Example:
        >>> Sce(2, VarianceTopK()).sum([Sizes(0, 0, 3.0, 8), Sizes(0, 0, 1.0, 8)]).weights
        (0.75, 0.25)
    """

    count: int
    select: VarianceTopK
    name = "sce"
    seed = 0
    needs_sizes = True

    @property
    def sparsifiers(self) -> tuple[Sparsifier, ...]:
        """What is kept of each task vector."""
        return (self.select,) * self.count

    @property
    def weights(self) -> ModelWeights:
        """Weights of base and models, as if all models weighed the same."""
        return (0.0, *(1 / self.count,) * self.count)

    def sum(self, sizes: Sequence[Sizes]) -> Sum:
        """The sum for one tensor, by the sizes of each task vector."""
        squares = [found.squares / max(found.count, 1) for found in sizes]
        total = sum(squares)
        equal = (1 / self.count,) * self.count
        weights = equal if total < SMALLEST_SQUARES else tuple(each / total for each in squares)
        return Sum(weights, (1.0,) * self.count, weights)


def _growth(sizes: Sizes) -> float:
    """What gives the kept elements the sum of magnitudes of all."""
    return sizes.total / sizes.kept if min(sizes.total, sizes.kept) >= SMALLEST_SUM else 1.0


def _divisor(weights: ModelWeights) -> float:
    total = sum(weights)
    return total if abs(total) >= SMALLEST_WEIGHT else 1.0
