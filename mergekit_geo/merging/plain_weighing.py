"""Sums of models weighed by statistics in numpy, where no compiler made the native ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mergekit_geo.geometry.weighing import Weighing
from mergekit_geo.merging.kernels import Chunk
from mergekit_geo.merging.torch_kernel import store
from mergekit_geo.merging.weighing import Doubles


class PlainWeighing:
    """The arithmetic of `weighed.c`, operation by operation but for the order of sums."""

    @np.errstate(over="ignore", invalid="ignore")
    def weigh(
        self, models: Sequence[Chunk], statistics: Sequence[Chunk], how: Weighing, out: Chunk
    ) -> Doubles:
        """Overwrite `out` with the weighed sum; returns the factors, summed."""
        first, *others = (chunk.values.astype(np.float64) for chunk in models)
        least = 0 if how.has_prior else how.floor
        own = [np.maximum(chunk.values.astype(np.float64), least) for chunk in statistics]
        prior = own[0] + how.floor if how.has_prior else np.zeros_like(first)
        total = prior if how.has_prior else how.weights[0] * own[0]
        moved, factors = np.zeros_like(first), []
        for weight, statistic, model in zip(how.weights[1:], own[1:], others, strict=True):
            factors.append(weight * (prior + statistic))
            total = total + weight * statistic
            moved += factors[-1] * (model - first)
        inverse = 1 / total
        merged = np.where(moved != 0, first + moved * inverse, first)
        store(torch.from_numpy(merged), out)
        return np.array([0.0, *(float((factor * inverse).sum()) for factor in factors)])
