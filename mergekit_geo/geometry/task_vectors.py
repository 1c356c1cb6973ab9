"""Merging what was learned on top of a base: any rule applied to the task vectors a_i - base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from mergekit_geo.geometry.gram import Gram, Matrix
from mergekit_geo.geometry.linear import Linear, normalized
from mergekit_geo.geometry.masked import SMALLEST_WEIGHT
from mergekit_geo.geometry.rule import Coefficients, ModelWeights, RowRule, Rule


@dataclass(frozen=True)
class FromBase:
    """base + sum_i c_i (a_i - base), where a rule finds the c_i from the task vectors.

    Attributes:
        step: Over the k task vectors; the anchors are the base, then the k models.

    Example:
        >>> FromBase(Linear((0.5, 0.25))).weights
        (0.25, 0.5, 0.25)
    """

    step: Rule

    @property
    def name(self) -> str:
        """Name of the rule for the task vectors."""
        return self.step.name

    @property
    def needs_gram(self) -> bool:
        """Whether the rule looks at the task vectors."""
        return self.step.needs_gram

    @property
    def weights(self) -> ModelWeights:
        """Weights of base and models."""
        return _with_base(self.step.weights)

    @property
    def convex(self) -> ModelWeights:
        """The weights' positive parts, normalised."""
        return Linear(self.weights).convex

    def coefficients(self, gram: Gram | None) -> Coefficients:
        """Coefficients of the rule for the task vectors; the base gets the rest to one."""
        found = self.step.coefficients(None if gram is None else task_gram(gram))
        return Coefficients(_with_base(found.values), found.branch)

    def of_rows(self, grams: Gram) -> Matrix:
        """Factors of many rows, if the rule for the task vectors has some: (n, 1 + k)."""
        found = cast("RowRule", self.step).of_rows(task_gram(grams))
        return np.concatenate([1.0 - found.sum(axis=1, keepdims=True), found], axis=1)


def task_arithmetic(weights: Sequence[float], scale: float = 1.0, normalize: bool = False) -> Rule:
    """Task arithmetic: base + scale * sum_i w_i (a_i - base) (Ilharco 2023).

    Args:
        weights: One per model, the base left out.
        scale: `lambda` in a recipe.
        normalize: Divide the weights by their sum; those that sum to zero stay as they are.

    Example:
        >>> task_arithmetic([1.0, 1.0], scale=0.5).weights
        (0.0, 0.5, 0.5)
    """
    used = normalized(weights) if normalize and abs(sum(weights)) >= SMALLEST_WEIGHT else weights
    scaled = tuple(scale * weight for weight in used)
    return FromBase(Linear(scaled, branch="task_arithmetic", name="task_arithmetic"))


def task_gram(gram: Gram) -> Gram:
    """The Gram matrix of the task vectors a_1 - a_0, ..., a_k - a_0 of k + 1 anchors.

    Example:
        >>> gram = task_gram(Gram.of(np.array([[1.0, 1.0], [4.0, 5.0], [1.0, 3.0]])))
        >>> gram.norms.tolist()
        [5.0, 2.0]
    """
    size = gram.differences.shape[-1] - 1
    rows = np.zeros((size, size + 1))
    rows[:, 1:] = np.eye(size)
    rows[1:, 1] -= 1.0
    return Gram(rows @ gram.differences @ rows.T, gram.count)


def _with_base(weights: ModelWeights) -> ModelWeights:
    return (1.0 - sum(weights), *weights)
