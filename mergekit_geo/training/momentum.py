"""The momentum that optimizers of torch keep, which momentum-SAM perturbs along (Becker 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from mergekit_geo.errors import ArgumentError, UnsupportedError

BUFFERS = ("exp_avg", "momentum_buffer")
"""Where an optimizer's state holds it: AdamW and its kin, SGD and its kin."""


def check_momentum(optimizer: Optimizer) -> None:
    """Refuse an optimizer without momentum.

    Raises:
        ArgumentError: A parameter group has none, and which.

    Example:
        >>> import torch
        >>> check_momentum(torch.optim.SGD([torch.zeros(1)], lr=0.1))
        Traceback (most recent call last):
        mergekit_geo.errors.ArgumentError: parameter group 0: momentum-SAM needs an optimizer with \
momentum, found SGD without any (SGD with momentum=0.9, or AdamW)
    """
    for number, group in enumerate(optimizer.param_groups):
        if not _decay(group):
            raise ArgumentError(
                f"momentum-SAM needs an optimizer with momentum, found {_name(optimizer)} without "
                "any",
                where=f"parameter group {number}",
                remedy="SGD with momentum=0.9, or AdamW",
            )


def momentum_of(optimizer: Optimizer, parameter: Tensor) -> Tensor | None:
    """Momentum of a parameter, of its shape; None before its first step.

    Raises:
        UnsupportedError: The optimizer keeps its state in another way.
    """
    state = optimizer.state.get(parameter)
    if not state:
        return None
    held = [name for name in BUFFERS if name in state]
    kept: Tensor | None = state[held[0]] if held else None
    if held and (kept is None or kept.shape == parameter.shape):
        return kept
    raise UnsupportedError(
        f"momentum-SAM looks for the momentum under {' or '.join(BUFFERS)}, and "
        f"{_name(optimizer)} holds {', '.join(map(str, state))}",
        remedy="AdamW or SGD of torch; or the variants sam and look, which take any optimizer",
    )


def _decay(group: dict[str, Any]) -> float:
    """How much of the momentum a step keeps; 0 where there is none."""
    betas: Sequence[float] = group.get("betas") or (0.0,)
    return float(group.get("momentum") or group.get("beta1") or betas[0])


def _name(optimizer: Any) -> str:
    while hasattr(optimizer, "optimizer"):  # accelerate's
        optimizer = optimizer.optimizer
    return type(optimizer).__name__
