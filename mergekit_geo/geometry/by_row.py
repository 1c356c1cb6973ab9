"""Merging each row of a tensor, or each column, as if it were a tensor of its own."""

from __future__ import annotations

from dataclasses import dataclass

from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.rule import Coefficients, ModelWeights, RowRule


@dataclass(frozen=True)
class ByRow:
    """A rule whose unit is a row.

    Attributes:
        rule: For each row.
        columns: The vectors run along the first dimension, and not along the last. A tensor of
            one dimension is one vector either way.

    Example:
        >>> from mergekit_geo.geometry.model_stock import model_stock
        >>> ByRow(model_stock(2)).passes, ByRow(model_stock(2), columns=True).passes
        (1, 2)
    """

    rule: RowRule
    columns: bool = False
    needs_gram = True

    @property
    def name(self) -> str:
        """Name of the rule."""
        return self.rule.name

    @property
    def weights(self) -> ModelWeights:
        """Weights of the rule."""
        return self.rule.weights

    @property
    def convex(self) -> ModelWeights:
        """Convex weights of the rule."""
        return self.rule.convex

    @property
    def branch(self) -> str:
        """What the record calls it."""
        return f"{self.name} by {'column' if self.columns else 'row'}"

    @property
    def passes(self) -> int:
        """How often tensors are read: columns are known at the end of them only."""
        return 1 + self.columns

    def coefficients(self, gram: Gram | None) -> Coefficients:
        """Coefficients of the whole tensor as one row."""
        return self.rule.coefficients(gram)
