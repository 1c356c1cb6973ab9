"""Inner products of long vectors, summed in float64: torch sums 1e8 of float32 1 % wrong.

Axes: m rows of a basis, n parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK = 1 << 14
"""Elements that are widened at a time."""

Floats = NDArray[np.float64]


def orthogonalise(basis_mn: Tensor, vector: Tensor) -> Floats:
    """Take a span out of a vector, in place, by two passes of classical Gram-Schmidt.

    Args:
        basis_mn: (m, n) orthonormal rows.
        vector: (n,); what is left of it is orthogonal to the rows.

    Returns:
        (m,) coordinates of what was taken out.
    """
    total = np.zeros(len(basis_mn))
    for _ in range(2):
        found = coordinates(basis_mn, vector)
        for part in _chunks(len(vector)):
            vector[part] -= torch.from_numpy(found) @ basis_mn[:, part].double()
        total += found
    return total


def coordinates(basis_mn: Tensor, vector: Tensor) -> Floats:
    """Inner product of each row (m, n) with a vector (n,), summed in float64: (m,)."""
    total = torch.zeros(len(basis_mn), dtype=torch.float64)
    for part in _chunks(len(vector)):
        total += basis_mn[:, part].double() @ vector[part].double()
    return total.numpy()


def inner(first: Tensor, second: Tensor) -> float:
    """<a, b> of two vectors (n,)."""
    return float(coordinates(first[None], second)[0])


def norm(vector: Tensor) -> float:
    """||v||_2 of a vector (n,)."""
    return math.sqrt(inner(vector, vector))


def _chunks(size: int) -> Iterator[slice]:
    return (slice(first, first + CHUNK) for first in range(0, size, CHUNK))
