"""The two kernels that all merging is made of: combine and gram, on one stretch of k anchors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.geometry.gram import Gram

HALVES = frozenset({"F16", "BF16"})


def accumulation_dtype(infos: Sequence[TensorInfo]) -> torch.dtype:
    """float32 where every anchor is a half, float64 otherwise."""
    halves = all(info.dtype in HALVES for info in infos)
    return torch.float32 if halves else torch.float64


def combine(rows_kn: Tensor, coefficients: Sequence[float], out_n: Tensor) -> None:
    """Sum the rows, each times its coefficient, in the rows' dtype.

    Zero coefficients are left out, so that an end of a path is its anchor to the bit, and the
    first product starts the sum, so that negative zeros survive.

    Args:
        rows_kn: (k, n), one anchor a row.
        coefficients: k factors.
        out_n: (n,), overwritten.

    Example:
        >>> out = torch.empty(2)
        >>> combine(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), (0.5, 0.5), out)
        >>> out
        tensor([2., 3.])
    """
    used = [(row, c) for row, c in zip(rows_kn.unbind(0), coefficients, strict=True) if c != 0]
    if not used:
        out_n.zero_()
        return
    (first, factor), *rest = used
    torch.mul(first, factor, out=out_n)
    for row, factor in rest:
        if out_n.dtype == torch.float64:  # two roundings, as the naive sum has: no fused multiply
            out_n.add_(row * factor)
        else:
            out_n.add_(row, alpha=factor)


def gram_(rows_kn: Tensor) -> Gram:
    """Inner products of k rows, which are overwritten by their differences from the first.

    Args:
        rows_kn: (k, n) in float32 or float64. Products are summed in that dtype over this
            stretch, and in float64 over stretches.

    Example:
        >>> gram_(torch.tensor([[3.0, 4.0], [4.0, 3.0]])).distances[0, 1].item()
        1.4142135623730951
    """
    rows_kn[1:].sub_(rows_kn[0])
    rows = rows_kn.unbind(0)
    products = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        for j, other in enumerate(rows[: i + 1]):
            products[i, j] = products[j, i] = torch.dot(row, other).item()
    return Gram(products, rows_kn.shape[1])


def count_nonfinite(rows_kn: Tensor) -> Tensor:
    """How many NaN or infinite elements each of k rows has: (k,) int64."""
    return (~torch.isfinite(rows_kn)).sum(dim=1)
