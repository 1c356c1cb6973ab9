"""What a merge rule is: from the geometry of one tensor to one coefficient per anchor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mergekit_geo.geometry.gram import Gram, Matrix

ModelWeights = tuple[float, ...]
"""One for each anchor."""


@dataclass(frozen=True)
class Coefficients:
    """The merged tensor as a combination of the anchors' tensors.

    Attributes:
        values: One factor per anchor.
        branch: How they came about, such as `slerp` or `linear: one element`.
    """

    values: tuple[float, ...]
    branch: str


class Rule(Protocol):
    """A merge method.

    Attributes:
        name: The field's name of the method.
        needs_gram: Whether the coefficients depend on the tensors; if not, one pass is enough.
        weights: One per anchor, as the method applies them.
        convex: Weights >= 0 that sum to one, for tensors that must stay between the anchors
            (a running variance must stay a variance).
    """

    @property
    def name(self) -> str:
        """The field's name of the method."""

    @property
    def needs_gram(self) -> bool:
        """Whether `coefficients` looks at the Gram matrix."""

    @property
    def weights(self) -> tuple[float, ...]:
        """One per anchor, as the method applies them."""

    @property
    def convex(self) -> tuple[float, ...]:
        """Weights >= 0 that sum to one."""

    def coefficients(self, gram: Gram | None) -> Coefficients:
        """One factor per anchor for a tensor with these inner products."""


class RowRule(Rule, Protocol):
    """A rule that can be asked about many rows of a tensor at once."""

    def of_rows(self, grams: Gram) -> Matrix:
        """Factors of n rows, from their inner products: (n, k)."""
