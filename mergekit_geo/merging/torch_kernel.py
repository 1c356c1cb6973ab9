"""The kernels in torch: on any device, and where no compiler made the native ones.

The arithmetic is that of `kernel.c`, operation by operation, so that `combine` gives the same bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mergekit_geo.checkpoints.dtypes import TORCH_DTYPES, bytes_of
from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.gram import Gram, Matrix
from mergekit_geo.merging.kernels import Chunk, core_count

STICKY = 1 << 36
"""The last of the 16 bits of a float64's mantissa that rounding to odd keeps."""


class TorchKernel:
    """The kernels on a device of torch.

    Args:
        device: As torch names it.

    Raises:
        ArgumentError: No such device here.
    """

    def __init__(self, device: str) -> None:
        try:
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            raise ArgumentError(
                f"device {device!r} cannot be used: {reason}", remedy="--device cpu"
            ) from error
        self.device = device
        self.workers = 1 if device == "cpu" else core_count()  # torch has threads of its own

    def gram(self, anchors: Sequence[Chunk], dtype: str = "F64") -> Gram:
        """Inner products of k chunks."""
        return _gram_(self._rows(anchors))

    def combine(self, anchors: Sequence[Chunk], coefficients: Sequence[float], out: Chunk) -> None:
        """Overwrite `out` with the sum of k chunks, each times its coefficient."""
        store(_sum(self._rows(anchors), coefficients), out)

    def combine_and_gram(
        self, anchors: Sequence[Chunk], coefficients: Sequence[float], out: Chunk
    ) -> Gram:
        """Combine chunks into `out`, and return their inner products, reading them once."""
        rows = self._rows(anchors)
        store(_sum(rows, coefficients), out)
        return _gram_(rows)

    def grams(self, anchors: Sequence[Chunk], width: int, dtype: str = "F64") -> Matrix:
        """Inner products of each row of `width` elements."""
        first, *others = (row.view(-1, width) for row in self._rows(anchors))
        moved = torch.stack([first, *(other - first for other in others)], dim=1)
        return np.asarray((moved @ moved.transpose(1, 2)).cpu().numpy())

    def combine_rows(self, anchors: Sequence[Chunk], factors: Matrix, out: Chunk) -> None:
        """Overwrite `out` with the sums, each row with its own factors."""
        columns = torch.from_numpy(np.ascontiguousarray(factors)).to(self.device)[..., None]
        rows = [row.view(len(factors), -1) for row in self._rows(anchors)]
        total, begun = torch.zeros_like(rows[0]), torch.zeros_like(columns[:, 0], dtype=torch.bool)
        for row, factor in zip(rows, columns.unbind(1), strict=True):
            term = torch.where(begun, total + row * factor, row * factor)
            total, begun = torch.where(factor != 0, term, total), begun | (factor != 0)
        store(total.flatten(), out)

    def _rows(self, anchors: Sequence[Chunk]) -> list[Tensor]:
        """One float64 vector each."""
        return [_tensor(anchor).to(self.device, torch.float64, copy=True) for anchor in anchors]


def _tensor(chunk: Chunk) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of memory that may not be written
        return torch.from_numpy(chunk.data).view(TORCH_DTYPES[chunk.dtype])


def _sum(rows: Sequence[Tensor], coefficients: Sequence[float]) -> Tensor:
    used = [(row, c) for row, c in zip(rows, coefficients, strict=True) if c != 0]
    if not used:
        return torch.zeros_like(rows[0])
    (first, factor), *rest = used
    total = first * factor
    for row, factor in rest:
        total += row * factor  # two roundings, as C has without fused multiplications
    return total


def store(values: Tensor, out: Chunk) -> None:
    """Round float64 values once into `out`."""
    halved = round_to_odd(values) if out.dtype in {"F16", "BF16"} else values
    out.data[:] = bytes_of(halved.to(TORCH_DTYPES[out.dtype]).cpu())


def round_to_odd(values: Tensor) -> Tensor:
    """float64 with 16 bits of mantissa, odd where bits were lost.

    Rounding that to fewer bits, even by way of float32, is then rounding once.

    Example:
        >>> (round_to_odd(torch.tensor([1 + 2**-40], dtype=torch.float64)) - 1).item() == 2**-16
        True
    """
    bits = values.view(torch.int64)
    lost = bits & (STICKY - 1)
    return ((bits - lost) | ((lost + STICKY - 1) & STICKY)).view(torch.float64)


def _gram_(rows: Sequence[Tensor]) -> Gram:
    """Inner products of vectors, all but the first of which become differences from it."""
    for row in rows[1:]:
        row.sub_(rows[0])
    products = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        for j, other in enumerate(rows[: i + 1]):
            products[i, j] = products[j, i] = torch.dot(row, other).item()
    return Gram(products, len(rows[0]))
