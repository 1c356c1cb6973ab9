"""Some examples of an objective, differentiable."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from mergekit_geo.evaluation.objective import Objective, TaskObjective
from mergekit_geo.tasks.losses import Indices

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from mergekit_geo.evaluation.objective import Piece


def pieces_of(objective: Objective, rows: Indices, model: Module) -> list[Piece]:
    """Batches of some examples only: losses and weights of each.

    A function of the caller's runs on its batches as they are; the other examples weigh nothing.

    Args:
        objective: All examples.
        rows: Indices of those that count.
        model: Any; tells how many examples the caller's batches hold.
    """
    if isinstance(objective, TaskObjective):
        return objective.of(rows).pieces()
    found: list[Piece] = []
    first = 0
    for piece in objective.pieces():
        with torch.no_grad():
            count = len(piece(model)[0])
        counts = np.isin(np.arange(first, first + count), rows)
        first += count
        if counts.any():
            found.append(partial(_masked, piece, torch.from_numpy(counts)))
    return found


def _masked(piece: Piece, counts: Tensor, model: Module) -> tuple[Tensor, Tensor]:
    loss, weight = piece(model)
    mask = counts.to(weight.device)
    return torch.where(mask, loss, torch.zeros_like(loss)), weight * mask
