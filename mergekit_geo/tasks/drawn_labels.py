"""Labels that are drawn from a model itself in place of those of the data: those of a true Fisher.

Tasks ask here for the labels of their losses. Outside of `labels_drawn` they are those of the data.

Shapes: n labels, v classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Drawing:
    """What labels are drawn with.

    Attributes:
        generator: On the CPU.
        used: Whether a task has asked for labels.
    """

    generator: torch.Generator
    used: bool = False


_DRAWING: ContextVar[Drawing | None] = ContextVar("labels", default=None)


@contextmanager
def labels_drawn(seed: int) -> Iterator[Drawing]:
    """Context in which labels are drawn from the distribution that a model gives them.

    Args:
        seed: The same labels for the same logits.

    Example:
        >>> logits = torch.tensor([[100.0, 0.0, 0.0], [0.0, 0.0, 100.0]])
        >>> with labels_drawn(0):
        ...     class_labels(logits, torch.tensor([1, 1]))
        tensor([0, 2])
    """
    drawing = Drawing(torch.Generator().manual_seed(seed))
    token = _DRAWING.set(drawing)
    try:
        yield drawing
    finally:
        _DRAWING.reset(token)


def class_labels(logits_nv: Tensor, labels_n: Tensor) -> Tensor:
    """Classes (n,): those of the data, or drawn by their probabilities."""
    generator = _generator()
    if generator is None:
        return labels_n
    with torch.no_grad():
        upto_nv = torch.softmax(logits_nv.detach().float(), dim=-1).cumsum(dim=-1)
        drawn_n1 = torch.rand(len(upto_nv), 1, generator=generator).to(upto_nv.device)
        found = torch.searchsorted(upto_nv, drawn_n1 * upto_nv[:, -1:], right=True)
        return found.squeeze(1).clamp(max=upto_nv.shape[-1] - 1)


def label_sets(logits_nv: Tensor, targets_nv: Tensor) -> Tensor:
    """A 0 or 1 for each of several labels (n, v): those of the data, or drawn one by one."""
    generator = _generator()
    if generator is None:
        return targets_nv
    drawn = torch.rand(logits_nv.shape, generator=generator).to(logits_nv.device)
    return (drawn < torch.sigmoid(logits_nv.detach().float())).to(targets_nv.dtype)


def numbers(found_nv: Tensor, targets_nv: Tensor) -> Tensor:
    """Numbers (n, v): those of the data, or drawn from the normal distribution around the model's.

    The mean squared error is the negative logarithm of a normal density of variance v / 2.
    """
    generator = _generator()
    if generator is None:
        return targets_nv
    noise = torch.randn(found_nv.shape, generator=generator).to(found_nv.device)
    return (found_nv.detach().float() + math.sqrt(found_nv.shape[-1] / 2) * noise).to(
        targets_nv.dtype
    )


def _generator() -> torch.Generator | None:
    drawing = _DRAWING.get()
    if drawing is None:
        return None
    drawing.used = True
    return drawing.generator
