"""Next-token loss of a causal language model, one number a window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mergekit_geo.objectives.windows import Window

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOGIT_ELEMENTS = 1 << 25
"""Most logits of a batch by default: 128 MiB in float32."""


@dataclass(frozen=True)
class Losses:
    """Losses of one model, per example and in the examples' order.

    Attributes:
        loss: (n,) mean negative log-likelihood of an example's tokens, in nats.
        weight: (n,) predicted tokens of each example.
        document: (n,) index of the document each example is from.
    """

    loss: NDArray[np.float64]
    weight: NDArray[np.float64]
    document: NDArray[np.int64]

    @cached_property
    def mean(self) -> float:
        """Mean loss per token, in nats."""
        return float(self.weight @ self.loss / self.weight.sum())


def default_batch_size(seq_len: int, vocab_size: int) -> int:
    """How many windows keep the logits small.

    Example:
        >>> default_batch_size(512, 32_000), default_batch_size(512, 128_000)
        (2, 1)
    """
    return max(1, min(32, LOGIT_ELEMENTS // (seq_len * vocab_size)))


def measure(
    model: PreTrainedModel,
    windows: Sequence[Window],
    batch_size: int,
    done: Callable[[int], None] = lambda tokens: None,
) -> Losses:
    """The loss of every window, in order.

    Args:
        model: In evaluation mode.
        windows: What to measure on.
        batch_size: Windows run together; windows of like length are, so that little is padded.
        done: Called with the number of predicted tokens after each batch.
    """
    weight = np.array([window.predicted for window in windows], dtype=np.float64)
    loss = np.empty(len(windows))
    longest_first = np.argsort(-weight, kind="stable")
    for start in range(0, len(windows), batch_size):
        rows = longest_first[start : start + batch_size]
        loss[rows] = _batch_losses(model, [windows[i] for i in rows])
        done(int(weight[rows].sum()))
    return Losses(loss, weight, np.array([window.document for window in windows]))


@torch.no_grad()
def _batch_losses(model: PreTrainedModel, windows: Sequence[Window]) -> NDArray[np.float64]:
    ids, mask = _padded(windows)
    ids, mask = ids.to(model.device), mask.to(model.device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    losses = [
        functional.cross_entropy(row[: w.predicted].float(), target[1 : w.predicted + 1]).double()
        for row, target, w in zip(logits, ids, windows, strict=True)
    ]
    return np.asarray(torch.stack(losses).cpu().numpy())


def _padded(windows: Sequence[Window]) -> tuple[Tensor, Tensor]:
    """Ids and mask, padded on the right to the longest: (batch, length) each."""
    length = max(len(window.tokens) for window in windows)
    ids = torch.zeros((len(windows), length), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, window in enumerate(windows):
        ids[row, : len(window.tokens)] = torch.tensor(window.tokens)
        mask[row, : len(window.tokens)] = 1
    return ids, mask
