"""Weighted soup: the same coefficients for every tensor (Wortsman 2022)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.rule import Coefficients


@dataclass(frozen=True)
class Linear:
    """sum_i w_i a_i.

    Attributes:
        weights: One per anchor, used as they are.
        branch: What the coefficients are called in the record.
        directions: How many of the last anchors are directions and no models: statistics take
            nothing of them.

    Example:
        >>> Linear((0.25, 0.75)).coefficients(None).values
        (0.25, 0.75)
        >>> Linear((0.5, 1.5, 7.0), directions=1).convex
        (0.25, 0.75, 0.0)
    """

    weights: tuple[float, ...]
    branch: str = "linear"
    name: str = "linear"
    needs_gram: bool = False
    directions: int = 0

    @property
    def convex(self) -> tuple[float, ...]:
        """The models' positive parts, normalised; equal ones where no weight is positive."""
        models = self.weights[: len(self.weights) - self.directions]
        positive = [max(weight, 0.0) for weight in models]
        if not any(positive):
            positive = [1.0] * len(positive)
        if not math.isfinite(sum(positive)):
            positive = [weight / max(positive) for weight in positive]
        return (*(weight / sum(positive) for weight in positive), *[0.0] * self.directions)

    def coefficients(self, gram: Gram | None) -> Coefficients:
        """The weights, whatever the tensor."""
        return Coefficients(self.weights, self.branch)


def check_weights(count: int, weights: Sequence[float] | None) -> tuple[float, ...]:
    """One finite weight per model; equal ones by default.

    Raises:
        ArgumentError: Their number is not the models', or one is not a number.
    """
    if weights is None:
        return (1.0,) * count
    if len(weights) != count:
        raise ArgumentError(
            f"{len(weights)} weights for {count} models", remedy="give one weight per model"
        )
    if wrong := [weight for weight in weights if not math.isfinite(weight)]:
        raise ArgumentError(f"weights must be numbers, found {wrong[0]}")
    return tuple(float(weight) for weight in weights)


def refuse_negative(weights: Sequence[float], what: str) -> None:
    """Refuse weights below zero.

    Args:
        weights: Of the models.
        what: That has a meaning for none of them, such as `a median`.

    Raises:
        ArgumentError: With the smallest.
    """
    if min(weights) < 0:
        raise ArgumentError(
            f"{what} needs weights >= 0, found {min(weights):g}",
            remedy="use a soup for negative weights",
        )


def shares(weights: tuple[float, ...], what: str) -> tuple[float, ...]:
    """Weights that can be shares of a whole, as they are.

    Args:
        weights: Of the models.
        what: That needs them, such as `a regression mean`.

    Raises:
        ArgumentError: One is below zero, or their sum is zero or infinite.
    """
    refuse_negative(weights, what)
    if not 0 < sum(weights) < math.inf:
        raise ArgumentError("the weights sum to zero, or are too large to be summed")
    return weights


def normalized(weights: Sequence[float]) -> tuple[float, ...]:
    """The weights divided by their sum.

    Raises:
        ArgumentError: They sum to zero.

    Example:
        >>> normalized([1, 1, 2])
        (0.25, 0.25, 0.5)
    """
    try:
        total = math.fsum(weights)
    except OverflowError as error:
        raise ArgumentError("the weights are too large to be summed") from error
    if abs(total) <= 1e-12 * max(map(abs, weights)):
        raise ArgumentError(
            f"the weights {', '.join(f'{w:g}' for w in weights)} sum to zero",
            remedy="change them; a soup can use them as they are with --no-normalize",
        )
    return tuple(weight / total for weight in weights)
