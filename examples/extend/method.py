"""A merge method: task vectors at equal lengths, so that no fine-tune outweighs the others.

python examples/extend/method.py merge a b --method equal_lengths --base base -o out
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mergekit_geo.cli.app import main
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.linear import Linear, normalized
from mergekit_geo.geometry.rule import Coefficients, ModelWeights, Rule
from mergekit_geo.geometry.task_vectors import FromBase
from mergekit_geo.merging.method import BaseUse, Method
from mergekit_geo.merging.methods import METHODS
from mergekit_geo.merging.parameter import WEIGHT


@dataclass(frozen=True)
class EqualLengths:
    """The mean of the task vectors, each first scaled to their mean length.

    Attributes:
        weights: One per task vector.
    """

    weights: ModelWeights
    name: str = "equal_lengths"
    needs_gram: bool = True

    @property
    def convex(self) -> ModelWeights:
        """Weights for running means and variances, which have to stay between the models'."""
        return Linear(self.weights).convex

    def coefficients(self, gram: Gram | None) -> Coefficients:
        """Factors of the task vectors of one tensor, from their inner products."""
        assert gram is not None
        scales = [gram.norms.mean() / length if length > 0 else 0.0 for length in gram.norms]
        return Coefficients(tuple(np.multiply(self.weights, scales)), self.name)


def rule(weights: ModelWeights, **_: object) -> Rule:
    """What merges every tensor, from the parameters that a call or a recipe gives."""
    return FromBase(EqualLengths(normalized(weights)))


EQUAL_LENGTHS = Method(
    "equal_lengths",
    formula="b + sum w_i m v_i / |v_i| / sum w_i, m the mean of the |v_i|",
    source="",
    rule=rule,
    parameters=(WEIGHT,),
    base=BaseUse.REQUIRED,
)

METHODS[EQUAL_LENGTHS.name] = EQUAL_LENGTHS  # the line in the table

if __name__ == "__main__":
    main()
