"""The directions in which the loss is curved most: top eigenvectors of the Hessian by Lanczos."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mergekit_geo.curvature.lanczos import FEWEST, Krylov, Product, lanczos
from mergekit_geo.errors import ArgumentError


@dataclass(frozen=True)
class Eigenpair:
    """An eigenvalue and its direction.

    Attributes:
        value: The Ritz value.
        residual: Some eigenvalue lies within this of it.
        vector: (n,) of norm 1.
        converged: Whether the residual is small beside the largest value.
    """

    value: float
    residual: float
    vector: Tensor
    converged: bool


def top_eigenpairs(
    product: Product, start: Tensor, count: int, *, steps: int, tolerance: float = 1e-3
) -> list[Eigenpair]:
    """The largest eigenvalues of a symmetric operator and their eigenvectors, largest first.

    Args:
        product: The operator.
        start: (n,) of any length.
        count: How many.
        steps: At most so many products; the basis takes as many vectors of memory.
        tolerance: Of each residual, relative to the largest value.

    Raises:
        ArgumentError: The space reached from the start has fewer directions.

    Example:
        >>> import torch
        >>> matrix = torch.diag(torch.tensor([5.0, 1.0, 3.0]))
        >>> found = top_eigenpairs(lambda v: matrix @ v, torch.ones(3), 2, steps=3)
        >>> [round(pair.value, 4) for pair in found], found[0].vector.abs().round(decimals=3)
        ([5.0, 3.0], tensor([1., 0., 0.]))
    """

    def stop(krylov: Krylov) -> bool:
        enough = len(krylov.values) >= max(FEWEST, count + 1)
        return enough and bool(krylov.converged(tolerance)[-count:].all())

    found = lanczos(product, start, steps, stop=stop)
    if len(found.values) < count:
        raise ArgumentError(
            f"expected {count} directions in which the loss is curved, found {len(found.values)}"
        )
    converged = found.converged(tolerance)
    return [
        Eigenpair(
            float(found.values[-i]),
            float(found.residuals[-i]),
            found.vector(-i),
            bool(converged[-i]),
        )
        for i in range(1, count + 1)
    ]
