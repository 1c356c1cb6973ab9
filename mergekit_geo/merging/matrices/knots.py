"""KnOTS (Stoica 2024): task matrices in the coordinates of one common basis, merged there.

The task matrices, side by side, have the singular value decomposition U S [V_1 ... V_T]ᵀ. What is
merged element by element is S V_iᵀ, which is Uᵀ times the task matrix, and U takes it back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mergekit_geo.geometry.masked import Elementwise
from mergekit_geo.merging.kernels import Chunk
from mergekit_geo.merging.masked import MaskedTensor
from mergekit_geo.merging.matrices.factors import factors
from mergekit_geo.merging.matrices.solved import Solved
from mergekit_geo.merging.reader import CHUNK, chunks


def knots(name: str, tasks: Sequence[Tensor], rule: Elementwise, seed: int) -> Solved:
    """Merge task matrices element by element in the basis that they have in common.

    Args:
        name: Of the tensor, which random masks depend on.
        tasks: (m, n) each.
        rule: By elements, over a base and the tasks.
        seed: Of random directions, for matrices of few.
    """
    found = factors(torch.cat(list(tasks), dim=1), seed)
    aligned = [found.u.T @ task.double() for task in tasks]
    if not len(found.s):
        return Solved(torch.zeros_like(tasks[0]), 0.0)
    merged = masked_sum(name, aligned, rule).to(found.u.device)
    return Solved(found.u @ merged, found.error, "low rank" if found.is_low else "")


def masked_sum(name: str, parts: Sequence[Tensor], rule: Elementwise) -> Tensor:
    """Tensors merged by elements over a base of zeros, on the CPU.

    Args:
        name: Which random masks depend on.
        parts: Of one shape, in float64.
        rule: Over the base and these.
    """
    rows = [part.contiguous().cpu().numpy().reshape(-1) for part in parts]
    rows = [np.zeros_like(rows[0]), *rows]
    shape = tuple(parts[0].shape)
    task = MaskedTensor(name, shape, rule, lambda step: _read(rows, step), CHUNK)
    for _ in chain.from_iterable(task.before(once=False)):
        pass
    merged = np.empty_like(rows[0])
    for start, anchors, masks in task.masks():
        task.add(masks, anchors, _chunk(merged, start, start + anchors[0].count))
    return torch.from_numpy(merged).view(shape)


def _read(rows: Sequence[NDArray[np.float64]], step: int) -> Iterator[tuple[int, list[Chunk]]]:
    for start, stop in chunks(len(rows[0]), step):
        yield start, [_chunk(row, start, stop) for row in rows]


def _chunk(row: NDArray[np.float64], start: int, stop: int) -> Chunk:
    return Chunk(row[start:stop].view(np.uint8), "F64")
