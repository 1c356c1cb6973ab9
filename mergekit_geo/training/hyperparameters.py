"""How a checkpoint is fine-tuned, checked where it is said."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mergekit_geo.config.optimization import OptimizationConfig
from mergekit_geo.config.option import option
from mergekit_geo.errors import ArgumentError

LARGEST_RATE = 1e-3
SGD_FACTOR, LORA_FACTOR = 30, 10
"""How much higher a rate SGD, and adapters, take than AdamW on all weights."""


@dataclass(frozen=True)
class TrainingConfig(OptimizationConfig):
    """How a checkpoint is fine-tuned; how SAM steps is said by `SamArguments`.

    The learning rate is by default 0.5 / sqrt(parameters of the model), at most 1e-3, for AdamW
    (5e-5 for 1e8 of them), 30 times as much for SGD, and 10
    times as much for LoRA (Hu 2021), which has adapters on every linear layer but the head. After
    its warm-up it falls to 0 as a cosine.

    Example:
        >>> TrainingConfig(batch_size=8, accumulation=2).steps_of(batches=10, processes=1)
        5
    """

    epochs: float | None = option(None, "Through the training data; 1 if not said.")
    steps: int | None = option(None, "In place of epochs.", least=1)
    warmup: float = option(0.05, "Share of the steps.")
    weight_decay: float = option(0.01, "Not of biases and norms.")
    lora_rank: int | None = option(
        None, "Train adapters of this rank, merged into the output (peft).", least=1
    )
    save_every: int | None = option(
        None, "Steps between states to resume from; a tenth if not said.", least=1
    )

    def __post_init__(self) -> None:
        if self.epochs is not None and self.steps is not None:
            raise ArgumentError("epochs and steps are both given", remedy="give one of them")
        for name in ("weight_decay", "clip", "warmup"):
            _at_least(name, getattr(self, name), 0)
        for name in ("epochs", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ArgumentError(f"{_spoken(name)} must be a number above 0, found {value:g}")
        if self.warmup > 1:
            raise ArgumentError(f"warmup is a share of the steps, found {self.warmup:g}")
        super().__post_init__()

    def rate(self, parameters: int) -> float:
        """The learning rate at its highest, for a model of so many parameters."""
        if self.learning_rate is not None:
            return self.learning_rate
        factor = (1 if self.optimizer == "adamw" else SGD_FACTOR) * (
            LORA_FACTOR if self.lora_rank else 1
        )
        return min(LARGEST_RATE, 0.5 / math.sqrt(parameters)) * factor

    def steps_of(self, batches: int, processes: int) -> int:
        """Steps of the optimizer.

        Args:
            batches: In once through the training data.
            processes: That share them.
        """
        if self.steps is not None:
            return self.steps
        return math.ceil((self.epochs or 1.0) * batches / (self.accumulation * processes))


def _at_least(name: str, value: float | None, least: int) -> None:
    if value is not None and not least <= value < math.inf:
        raise ArgumentError(f"{_spoken(name)} must be at least {least}, found {value:g}")


def _spoken(name: str) -> str:
    return name.replace("_", "-")
