"""Model Stock: how far to go from a base towards the average, by the angle of the task vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.gram import Gram, Matrix
from mergekit_geo.geometry.rule import Coefficients
from mergekit_geo.geometry.task_vectors import FromBase

FLAT = 1e-12
"""1 + (k - 1) cos below which task vectors balance out, and there is no way to go."""


@dataclass(frozen=True)
class Stock:
    """t / k for each of k task vectors, with t = k cos / (1 + (k - 1) cos) (Jang 2024, eq. 7).

    The paper has one angle for all pairs; as in mergekit it is here the mean of the pairs'
    cosines. A task vector of zero counts as a right angle to the others.

    Attributes:
        count: Number of task vectors, at least 2.
    """

    count: int
    name: str = "model_stock"
    needs_gram: bool = True

    def __post_init__(self) -> None:
        if self.count < 2:  # noqa: PLR2004
            raise ArgumentError(
                f"model stock needs two models or more beside the base, found {self.count}"
            )

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of the average, which t = 1 gives."""
        return (1.0 / self.count,) * self.count

    @property
    def convex(self) -> tuple[float, ...]:
        """The weights, which are convex already."""
        return self.weights

    def coefficients(self, gram: Gram | None) -> Coefficients:
        """One and the same for every task vector."""
        assert gram is not None
        cosine = float(mean_cosine(gram))
        total = 1.0 + (self.count - 1) * cosine
        if total < FLAT:
            return Coefficients((0.0,) * self.count, "model_stock: balanced, the base")
        return Coefficients((cosine / total,) * self.count, "model_stock")

    def of_rows(self, grams: Gram) -> Matrix:
        """Factors of many rows, 0 where task vectors balance out: (n, k)."""
        cosine = mean_cosine(grams)
        total = 1.0 + (self.count - 1) * cosine
        share = np.where(total < FLAT, 0.0, cosine / np.where(total < FLAT, 1.0, total))
        return np.repeat(share[:, None], self.count, axis=1)


def model_stock(count: int) -> FromBase:
    """Model Stock of a base and so many models, tensor by tensor.

    Raises:
        ArgumentError: Fewer than two models.

    Example:
        >>> sixty_degrees = Gram.of(np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 3**0.5]]))
        >>> [round(c, 6) for c in model_stock(2).coefficients(sixty_degrees).values]
        [0.333333, 0.333333, 0.333333]
    """
    return FromBase(Stock(count))


def mean_cosine(gram: Gram) -> Matrix:
    """Mean cosine of all pairs, of each row; 0 for a pair with a zero."""
    present = gram.norms > 0
    pairs = present[..., :, None] & present[..., None, :]
    cosines = np.where(pairs, gram.cosines, 0.0)
    first, second = np.triu_indices(cosines.shape[-1], 1)
    return np.asarray(cosines[..., first, second].mean(axis=-1))
