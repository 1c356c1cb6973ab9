"""Trainings that SAM cannot be right in, told before the first step."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn import Module
from torch.optim import Optimizer

from mergekit_geo.errors import ArgumentError, UnsupportedError

if TYPE_CHECKING:
    from accelerate import Accelerator

SINGLE = 4
"""Bytes of a float32."""


def check_weights(trained: Sequence[Tensor]) -> None:
    """Require trainable weights, in single precision or better.

    Raises:
        ArgumentError: Nothing is trainable.
        UnsupportedError: Weights in half precision.
    """
    if not trained:
        raise ArgumentError(
            "the optimizer has no trainable parameter", remedy="model.requires_grad_(True)"
        )
    for parameter in trained:
        if parameter.dtype.itemsize < SINGLE:
            raise UnsupportedError(
                f"SAM on weights in {parameter.dtype}: rounding swallows a step of length rho "
                "spread over all of them",
                remedy="keep the weights in float32 (model.float()) and compute in low precision "
                "by autocast: bf16=True, mixed_precision='bf16'",
            )


def check_optimizer(optimizer: Optimizer) -> None:
    """Refuse an optimizer whose step needs a closure.

    Raises:
        ArgumentError: Its `step` calls a closure to compute gradients anew.
    """
    inner = optimizer
    while hasattr(inner, "optimizer"):  # accelerate's
        inner = inner.optimizer
    closure = inspect.signature(type(inner).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ArgumentError(
            f"{type(inner).__name__} needs a closure, in which it would move away from SAM's point",
            remedy="an optimizer that steps by .grad, such as AdamW or SGD",
        )


def check_backend(model: Module, accelerator: Accelerator | None = None) -> None:
    """Refuse backends that step by themselves, or whose weights cannot be moved.

    Raises:
        UnsupportedError: DeepSpeed or FSDP 1.
    """
    kind = getattr(accelerator, "distributed_type", "")
    if kind == "DEEPSPEED" or type(model).__module__.split(".")[0] == "deepspeed":
        raise UnsupportedError(
            "SAM under DeepSpeed: its backward steps and clears gradients by itself, so that no "
            "second pass can be made before the step",
            remedy="DDP, or FSDP2 for models that need sharding: accelerate's fsdp_version=2",
        )
    if isinstance(model, FullyShardedDataParallel):
        raise UnsupportedError(
            "SAM under FSDP 1: its flat parameters cannot be moved between two passes",
            remedy="FSDP2: fsdp_version=2, or torch's fully_shard",
        )
