"""BatchNorm statistics of a merged model, estimated anew (REPAIR; Jordan 2023, Garipov 2018).

The average of running means is not the running mean of the average: after moving in weight space
the statistics are those of no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(model: Module) -> list[_BatchNorm]:
    """The layers whose running statistics a merge disturbs."""
    return [
        layer
        for layer in model.modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    ]


@torch.no_grad()
def reestimate(
    model: Module, batches: Iterable[Any], forward: Callable[[Module, Any], object]
) -> int:
    """Replace running statistics by the plain average over batches; returns their number.

    Args:
        model: Only its BatchNorm layers are put into training mode, and only meanwhile.
        batches: Training data.
        forward: Runs the model on a batch.

    Example:
        >>> layer = torch.nn.BatchNorm1d(1)
        >>> batches = [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [7.0]])]
        >>> reestimate(layer, batches, lambda model, batch: model(batch)), layer.running_mean
        (2, tensor([4.]))
    """
    count = 0
    with _cumulative(model):
        for batch in batches:
            forward(model, batch)
            count += 1
    return count


@contextmanager
def _cumulative(model: Module) -> Iterator[None]:
    layers = batch_norms(model)
    before = [(layer.momentum, layer.training) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the average over all batches, not a moving one
        layer.train()
    try:
        yield
    finally:
        for layer, (momentum, training) in zip(layers, before, strict=True):
            layer.momentum = momentum
            layer.train(training)
