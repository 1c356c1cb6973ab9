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

    from mergekit_geo.evaluation.objective import Batch


def batches_of_rows(objective: Objective, rows: Indices, model: Module) -> list[Batch]:
    """Batches of some examples only: losses and weights of each.

    A function of the caller's runs on its batches as they are; the other examples weigh nothing.

    Args:
        objective: All examples.
        rows: Indices of those that count.
        model: Any; tells how many examples the caller's batches hold.
    """
    if isinstance(objective, TaskObjective):
        return objective.of(rows).batches()
    found: list[Batch] = []
    first = 0
    for batch in objective.batches():
        with torch.no_grad():
            count = len(batch(model)[0])
        counts = np.isin(np.arange(first, first + count), rows)
        first += count
        if counts.any():
            found.append(partial(_masked, batch, torch.from_numpy(counts)))
    return found


def _masked(batch: Batch, counts: Tensor, model: Module) -> tuple[Tensor, Tensor]:
    loss, weight = batch(model)
    mask = counts.to(weight.device)
    return torch.where(mask, loss, torch.zeros_like(loss)), weight * mask
