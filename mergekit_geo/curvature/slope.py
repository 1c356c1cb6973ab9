"""Loss and gradient where a model stands, and norms without which the rest misleads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from mergekit_geo.curvature.ascent import one_step
from mergekit_geo.curvature.levels import EVALUATION
from mergekit_geo.curvature.measure import LocalLoss, Measure
from mergekit_geo.evaluation.losses import run_with
from mergekit_geo.evaluation.statistics import mean_loss
from mergekit_geo.modules.vectors import norm
from mergekit_geo.records.curvature import SlopeEntry


class LogitNorm:
    """Mean over positions of the Euclidean norm of the centred logits, while a model runs.

    It is the confidence that averaging shrinks. A constant on all logits changes no probability, so
    their mean is left out; so are the positions that an attention mask hides.
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


def _slope(at: LocalLoss) -> SlopeEntry:
    logits, loss, groups = LogitNorm(), at.loss, at.gradients
    with logits.of(loss.model):
        losses = at.sample.measured.measure(loss.model)
    at.spend(EVALUATION * len(loss.batches))
    device, dtype, attention = run_with(loss.model)
    return SlopeEntry(
        examples=len(losses.loss),
        tokens=int(losses.weight.sum()),
        documents=len(np.unique(losses.document)),
        parameters=loss.weights.size,
        device=device,
        dtype=dtype,
        attention=attention,
        loss=groups.loss,
        loss_error=mean_loss(losses).error,
        gradient_norm=groups.norm,
        squared_norm=groups.squared_norm,
        squared_norm_error=groups.standard_error,
        parameter_norm=norm(loss.weights.vector()),
        logit_norm=logits.mean,
        one_step=one_step(loss, groups.gradient, groups.loss, at.radii.rho),
        groups=groups.groups,
    )


SLOPE = Measure("slope", _slope, SlopeEntry, cost=lambda level: 1 + 2 * EVALUATION)
