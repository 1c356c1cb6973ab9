"""Loss of every token that counts, from logits of which a chunk at a time is worked on.

Shapes: b rows, l positions, v classes, n positions that count, c of them in a chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from mergekit_geo.tasks.counted_logits import counted_logits
from mergekit_geo.tasks.drawn_labels import class_labels
from mergekit_geo.tasks.task import BatchLosses

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

IGNORED = -100
"""The label of a position that does not count, as torch and transformers have it."""

CPU_CHUNK = 1 << 19
"""Logits of a chunk: 2 MiB in float32, which stay in a core's cache."""

DEVICE_CHUNK = 1 << 25
"""Logits of a chunk on an accelerator, whose kernels are best on many: 128 MiB."""


def token_losses(
    model: Module, inputs: Mapping[str, Any], labels_bl: Tensor, *, answers: bool = False
) -> BatchLosses:
    """Mean loss in nats and share of right answers over each row's counted tokens.

    Args:
        model: Its logits score the classes of each position.
        inputs: What it is called with.
        labels_bl: -100 where a position does not count.
        answers: Whether every answer is returned, too.
    """
    counted_bl = labels_bl != IGNORED
    labels_n = labels_bl[counted_bl]
    logits = counted_logits(model, inputs, counted_bl)
    rows = rows_of_a_chunk(logits.values)
    pieces = zip(logits.chunks(rows), torch.split(labels_n, rows), strict=True)
    loss, said = zip(
        *[_of_chunk(logits_cv, labels_c) for logits_cv, labels_c in pieces], strict=True
    )
    loss_n, said_n = torch.cat(loss), torch.cat(said)
    right_n = (said_n == labels_n).to(loss_n)
    found = BatchLosses(_row_means(loss_n, counted_bl), _row_means(right_n, counted_bl))
    if not answers:
        return found
    owner = counted_bl.nonzero()[:, 0]
    return replace(found, owner=owner, target=labels_n, predicted=said_n)


def rows_of_a_chunk(logits: Tensor) -> int:
    """Number of positions whose logits are worked on together."""
    chunk = CPU_CHUNK if logits.device.type == "cpu" else DEVICE_CHUNK
    return max(1, chunk // logits.shape[-1])


def _of_chunk(logits_cv: Tensor, labels_c: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of each position, and the class of its largest logit."""
    logits = logits_cv.float()
    labels = class_labels(logits, labels_c)
    return functional.cross_entropy(logits, labels, reduction="none"), largest(logits)


def largest(logits_cv: Tensor) -> Tensor:
    """The first class of the largest logit; on a CPU by numpy, ten times as fast as torch."""
    if logits_cv.device.type == "cpu":
        return torch.from_numpy(logits_cv.detach().numpy().argmax(axis=-1))
    return logits_cv.argmax(dim=-1)


def _row_means(values_n: Tensor, counted_bl: Tensor) -> Tensor:
    """(b,) mean of the numbers of each row's counted positions."""
    spread = torch.zeros(counted_bl.shape, dtype=values_n.dtype, device=values_n.device)
    return spread.index_put(counted_bl.nonzero(as_tuple=True), values_n).sum(1) / counted_bl.sum(1)
