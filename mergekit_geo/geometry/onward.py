"""A path that starts at a point which is itself a combination of anchors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Coefficients, ModelWeights, Rule


def onward(start: Rule, step: Rule, target: int) -> Rule:
    """A point of a path from a point to an anchor, as a rule over all anchors.

    Args:
        start: Of the point p that the path starts at, over k anchors.
        step: Of the path, over p, the anchor it leads to, and the bends between them, if any.
        target: Which of the k anchors it leads to.

    Returns:
        A rule over the k anchors and then the path's bends.

    Example:
        >>> onward(Linear((0.5, 0.5, 0.0)), Linear((0.75, 0.25)), 2).weights
        (0.375, 0.375, 0.25)
    """
    if isinstance(start, Linear) and isinstance(step, Linear):
        weights = _combined(start.weights, step.weights, target)
        return Linear(weights, branch=step.branch, name=step.name)
    return Onward(start, step, target)


@dataclass(frozen=True)
class Onward:
    """Two rules one after the other, where a coefficient depends on the tensor's geometry.

    Attributes:
        start: Of p, over k anchors.
        step: Over p and the target.
        target: Which anchor the path leads to.
    """

    start: Rule
    step: Rule
    target: int
    needs_gram: bool = True

    @property
    def name(self) -> str:
        """Name of the path's rule."""
        return self.step.name

    @property
    def weights(self) -> ModelWeights:
        """Weights of the anchors, after both rules."""
        return _combined(self.start.weights, self.step.weights, self.target)

    @property
    def convex(self) -> ModelWeights:
        """Weights >= 0 that sum to one."""
        return _combined(self.start.convex, self.step.convex, self.target)

    def coefficients(self, gram: Gram | None) -> Coefficients:
        """Coefficients of p, combined with those of the path between p and the target."""
        assert gram is not None
        start = self.start.coefficients(gram).values
        found = self.step.coefficients(_pair(gram, start, self.target))
        return Coefficients(_combined(start, found.values, self.target), found.branch)


def _combined(start: ModelWeights, step: ModelWeights, target: int) -> ModelWeights:
    """step[0] p + step[1] a_target + the bends."""
    moved = [step[0] * weight for weight in start]
    moved[target] += step[1]
    return (*moved, *step[2:])


def _pair(gram: Gram, start: ModelWeights, target: int) -> Gram:
    """The Gram matrix of p and a_target, over (p, a_target - p).

    In the basis (a0, a1 - a0, ...) of the matrix, p has the coordinates (sum of c, c_1, ...).
    """
    p = np.array(start, dtype=np.float64)
    p[0] = sum(start)
    goal = np.zeros_like(p)
    goal[0] = 1.0
    if target:
        goal[target] = 1.0
    rows = np.stack([p, goal - p])
    return Gram(rows @ gram.differences @ rows.T, gram.count)
