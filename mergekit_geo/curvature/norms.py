"""Norm of the logits: the confidence that averaging shrinks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module


class LogitNorm:
    """Mean over positions of the Euclidean norm of the centred logits, while a model runs.

    A constant on all logits changes no probability, so their mean is left out; so are the positions
    that an attention mask hides.
    """

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    @property
    def mean(self) -> float | None:
        """The mean norm; None where the model gave no logits."""
        return self.total / self.count if self.count else None

    @contextmanager
    def of(self, model: Module) -> Iterator[None]:
        """Context that records the norms of a model's logits."""
        handle = model.register_forward_hook(self._hear, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    @torch.no_grad()
    def _hear(self, model: Module, args: Any, inputs: dict[str, Any], output: Any) -> None:
        logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
        if not isinstance(logits, Tensor) or logits.ndim < 2:  # noqa: PLR2004
            return
        norms = (logits - logits.mean(dim=-1, keepdim=True)).float().norm(dim=-1)
        mask = inputs.get("attention_mask")
        if isinstance(mask, Tensor) and mask.shape == norms.shape:
            norms = norms[mask.bool()]
        self.total += float(norms.sum())
        self.count += norms.numel()
