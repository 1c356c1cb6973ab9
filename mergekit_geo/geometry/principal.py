"""The plane that follows a training: principal directions of its checkpoints, by their Gram matrix.

Li (2018, section 7) takes the differences θ_i - θ_n of k checkpoints from the last one as rows, and
the two directions that explain most of them. As in the authors' code the rows are centred on their
mean (principal component analysis), so directions do not depend on the checkpoint that differences
are from, and the plane goes through the last one. With H = I - 1/k and the (k, k) inner products D
of the rows, eigenvectors v of H D H with eigenvalues λ give unit directions Σ_i v_i / √λ θ_i: no
matrix of weights is ever made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.gram import Gram, Matrix
from mergekit_geo.geometry.plane import FLAT, SPANNING, Plane, offsets

FEWEST = 3
"""Checkpoints that can span a plane."""


@dataclass(frozen=True)
class PrincipalPlane:
    """The plane through a model along the two largest principal directions of k models.

    Attributes:
        plane: Coordinates are distances; the origin is the first model, and the others' offsets
            follow those of the two directions.
        weights_2k: (2, k) weights of the models that make each direction: sums of 0.
        shares: Share of the variance of the models about their mean along each direction.

    Example:
        >>> models = np.array([[0.0, 0.0, 1.0], [4.0, 0.0, 1.0], [2.0, 1.0, 1.0]])
        >>> found = PrincipalPlane.of(Gram.of(models), 3)
        >>> [f"{share:.2f}" for share in found.shares]
        ['0.92', '0.08']
        >>> abs(np.round(found.weights_2k @ models, 9)).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """

    plane: Plane
    weights_2k: Matrix
    shares: tuple[float, float]

    @classmethod
    def of(cls, gram: Gram, count: int, start: int = 0) -> PrincipalPlane:
        """The plane of `count` models; those after them are placed on it alone.

        Args:
            gram: Of all, the one that the plane goes through first.
            count: Models whose variance is explained.
            start: Which of them is to lie on the left of the origin, or below.

        Raises:
            ArgumentError: Fewer than three models, or all on one line.
        """
        if count < FEWEST:
            raise ArgumentError(f"principal directions need three models, found {count}")
        products = offsets(gram, ())
        seen = np.zeros((count, count))
        seen[1:, 1:] = products[: count - 1, : count - 1]
        values, vectors = _largest(centred(seen))
        if values[1] <= FLAT**2 * values[0]:
            raise ArgumentError("expected models that span a plane, found them on one line")
        weights = vectors / np.sqrt(values)[:, None]
        weights *= np.where(weights @ seen[:, start] > 0, -1.0, 1.0)[:, None]
        change = np.vstack([_padded(weights[:, 1:], len(products)), np.eye(len(products))])
        plane = Plane(change @ products @ change.T, 1, np.eye(SPANNING))
        return cls(plane, weights, _shares(values, np.trace(centred(seen))))

    def place_number(self, model: int) -> int:
        """The number of a model among the offsets of the plane; -1 is the origin."""
        return model - 1 + SPANNING if model else -1


def walk_shares(times: Sequence[float]) -> tuple[float, float]:
    """Share of the variance of a random walk along each of its two largest principal directions.

    In many dimensions a walk without any aim has 61 % and 15 % of its variance there, as 1/j² along
    the j-th, and draws smooth curves on its plane (Antognini & Sohl-Dickstein 2018): a training
    whose shares are no larger shows no more than that.

    Args:
        times: At which the walk is looked at, in order, such as steps of training.

    Example:
        >>> [f"{share:.3f}" for share in walk_shares(range(1000))]
        ['0.608', '0.152']
    """
    seen = np.array(times, dtype=np.float64)
    covariance = centred(np.minimum.outer(seen, seen) - seen.min())
    return _shares(_largest(covariance)[0], np.trace(covariance))


def centred(products_kk: Matrix) -> Matrix:
    """Inner products of k vectors' differences from their mean, of those of the vectors: H D H."""
    rows = products_kk - products_kk.mean(axis=0)
    return np.asarray(rows - rows.mean(axis=1, keepdims=True))


def _largest(products_kk: Matrix) -> tuple[Matrix, Matrix]:
    """(2,) largest eigenvalues, descending, and (2, k) their eigenvectors."""
    values, vectors = np.linalg.eigh(products_kk)
    return values[:-3:-1], vectors[:, :-3:-1].T


def _shares(values: Matrix, total: float) -> tuple[float, float]:
    return float(values[0] / total), float(values[1] / total)


def _padded(weights_2k: Matrix, count: int) -> Matrix:
    """(2, count): nothing of the models that are only placed."""
    return np.pad(weights_2k, ((0, 0), (0, count - weights_2k.shape[1])))
