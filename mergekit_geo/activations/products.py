"""Sums of outer products of activations: the lower triangle of XᵀX, block by block.

Shapes: n positions, w features.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 1024
"""Positions whose activations are widened to float32 at a time."""

BLOCK = 1024
"""Features of a block: of the blocks above the diagonal none is computed."""


def add_products(gram_ww: Tensor, rows_nw: Tensor) -> None:
    """Add XᵀX to the blocks of a Gram matrix on and below the diagonal, in place.

    Args:
        gram_ww: (w, w) float32; blocks above the diagonal are not touched.
        rows_nw: X: (n, w) of any float dtype.

    Example:
        >>> gram = torch.zeros(2, 2)
        >>> add_products(gram, torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
        >>> gram
        tensor([[10.,  2.],
                [ 2.,  4.]])
    """
    for few in torch.split(rows_nw, ROWS):
        wide = few.to(gram_ww.dtype)
        parts = [slice(i, i + BLOCK) for i in range(0, len(gram_ww), BLOCK)]
        for number, left in enumerate(parts):
            for right in parts[: number + 1]:
                gram_ww[left, right].addmm_(wide[:, left].T, wide[:, right])


def mirrored(gram_ww: Tensor) -> Tensor:
    """The whole of a symmetric matrix whose blocks above the diagonal are not filled, in place.

    Example:
        >>> mirrored(torch.tensor([[1.0, 0.0], [2.0, 3.0]]))
        tensor([[1., 2.],
                [2., 3.]])
    """
    for begin in range(0, len(gram_ww), BLOCK):
        end = begin + BLOCK
        corner = gram_ww[begin:end, begin:end]
        corner.copy_(corner.tril() + corner.tril(-1).T)
        gram_ww[begin:end, end:].copy_(gram_ww[end:, begin:end].T)
    return gram_ww
