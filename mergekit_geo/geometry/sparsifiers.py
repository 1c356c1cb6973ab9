"""Sparsifiers: which elements of a task vector are kept.

A sparsifier says what it keeps of a tensor as a selection: by rank, by variance, or at random.
`merging.masks` finds the mask of each kind of selection in memory that does not grow with the
tensor, so that a new sparsifier is a class with one method.
"""

from __future__ import annotations

from dataclasses import dataclass

from mergekit_geo.errors import ArgumentError
from mergekit_geo.limits import Interval

DENSITY = Interval(0, 1)
"""The share of elements that may be kept: 0 keeps none, 1 keeps all, whatever else is set."""

OUTLIERS = Interval(0, 1, open_high=True)
"""The share of elements that may be left out as outliers."""


@dataclass(frozen=True)
class ByRank:
    """Elements whose rank by magnitude lies in [first, stop); the smallest has rank 0.

    Attributes:
        first: Lowest rank that is kept.
        stop: The rank after the highest.
        first_come: Of elements as large as the smallest that is kept, the first are kept, not the
            last.
    """

    first: int
    stop: int
    first_come: bool = False


@dataclass(frozen=True)
class ByVariance:
    """Elements of the largest variance over the models: the same for every task vector.

    Attributes:
        share: How many, of those whose variance is not zero.
    """

    share: float


@dataclass(frozen=True)
class AtRandom:
    """Each element with the same chance.

    Attributes:
        chance: Of being kept.
    """

    chance: float


@dataclass(frozen=True)
class AtRandomByRank:
    """Each element with a chance that grows evenly with its rank by magnitude in its row.

    Attributes:
        low: Chance of the smallest of a row.
        high: Chance of the largest.
    """

    low: float
    high: float


@dataclass(frozen=True)
class ByImportance:
    """Elements whose importance is the median and 1.5 interquartile ranges, or more.

    That of an element is its magnitude times the Kullback-Leibler divergence of its row.
    """


@dataclass(frozen=True)
class Above:
    """Elements of a larger magnitude.

    Attributes:
        limit: Larger than this.
    """

    limit: float


Selection = ByRank | ByVariance | ByImportance | AtRandom | AtRandomByRank | Above

RANKED = ByRank | ByVariance | ByImportance
"""Selections that look at all elements before they can say what is kept."""

NOTHING = AtRandom(0.0)
"""Selects no element, without a look at them."""


@dataclass(frozen=True)
class Sparsifier:
    """Which elements of a task vector are kept.

    Attributes:
        density: The share of them, in [0, 1].

    Raises:
        ArgumentError: Another density.
    """

    density: float = 1.0

    def __post_init__(self) -> None:
        DENSITY.check("density", self.density)

    def selection(self, count: int) -> Selection | None:
        """What is kept of a tensor of so many elements; None keeps all."""
        if self.density == 1 or not count:
            return None
        return self.select(count) if self.density else NOTHING

    def select(self, count: int) -> Selection:
        """What is kept where neither all nor nothing is: the one method of a new sparsifier."""
        raise NotImplementedError


class TopK(Sparsifier):
    """The largest by magnitude, of equal ones the first; at least one (TIES: Yadav 2023).

    Example:
        >>> TopK(0.25).selection(8)
        ByRank(first=6, stop=8, first_come=True)
    """

    def select(self, count: int) -> Selection:
        """The highest ranks."""
        return ByRank(count - max(1, int(self.density * count)), count, first_come=True)


@dataclass(frozen=True)
class Breadcrumbs(Sparsifier):
    """The largest but for outliers, of equal ones the last (Breadcrumbs: Davari 2024).

    Attributes:
        gamma: The share of the largest that is left out, as far as `density` leaves room.
    """

    gamma: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        OUTLIERS.check("gamma", self.gamma)

    def select(self, count: int) -> Selection:
        """The highest ranks below the outliers."""
        share = int(self.density * count)
        least = max(0, count - share - int(self.gamma * count))
        return ByRank(least, least + share)


class Dropout(Sparsifier):
    """Each with the same chance (DARE: Yu 2024)."""

    def select(self, count: int) -> Selection:
        """The density is the chance."""
        return AtRandom(self.density)


@dataclass(frozen=True)
class MagPrune(Sparsifier):
    """Each with a chance that grows with its rank in its row (DELLA: Deep 2024).

    Attributes:
        epsilon: Chances run from density - epsilon to density + epsilon. Not looked at where the
            density is 0 or 1, and nothing or everything is kept.
    """

    epsilon: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        inside = self.density - abs(self.epsilon) > 0 and self.density + abs(self.epsilon) < 1
        if 0 < self.density < 1 and not inside:
            raise ArgumentError(
                f"density {self.density:g} and epsilon {self.epsilon:g}: chances from density - "
                "epsilon to density + epsilon must lie inside (0, 1)"
            )

    def select(self, count: int) -> Selection:
        """Chances around the density."""
        return AtRandomByRank(self.density - self.epsilon, self.density + self.epsilon)


class VarianceTopK(Sparsifier):
    """A share of the elements in which the models differ, those of the largest variance (SCE)."""

    def select(self, count: int) -> Selection:
        """The density is the share."""
        return ByVariance(self.density)


class Important(Sparsifier):
    """Keep the elements that Arcee Fusion fuses, however many they are."""

    def selection(self, count: int) -> Selection | None:
        """Ranks elements by importance."""
        return ByImportance() if count else None


@dataclass(frozen=True)
class Larger(Sparsifier):
    """Keep the elements that change by more than so much (RAM), however many they are.

    Attributes:
        limit: A change of this size is none.
    """

    limit: float = 0.0

    def selection(self, count: int) -> Selection | None:
        """Ranks elements by magnitude."""
        return Above(self.limit) if count else None
