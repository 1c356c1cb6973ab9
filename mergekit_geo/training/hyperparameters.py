"""How a checkpoint is fine-tuned, checked where it is said."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mergekit_geo.errors import ArgumentError
from mergekit_geo.limits import check_count

OPTIMIZERS = ("adamw", "sgd")
LARGEST_RATE = 1e-3
SGD_FACTOR, LORA_FACTOR = 30, 10
"""How much higher a rate SGD, and adapters, take than AdamW on all weights."""


@dataclass(frozen=True)
class Training:
    """How a checkpoint is fine-tuned; how SAM steps is said by `SamArguments`.

    Attributes:
        optimizer: `adamw`, or `sgd` with momentum 0.9 and Nesterov's rule.
        epochs: Times through the training data; 1 if neither this nor `steps` is said.
        steps: Of the optimizer, in place of epochs.
        learning_rate: The highest; None is 0.5 / sqrt(parameters of the model), at most 1e-3, for
            AdamW (5e-5 for 1e8 of them), 30 times as much for SGD, and 10 times as much for LoRA.
        warmup: Share of the steps in which the rate rises; after them it falls to 0 as a cosine.
        weight_decay: Of all weights but biases and norms.
        batch_size: Examples of a batch, on each process.
        accumulation: Batches of a step.
        clip: Largest norm of the gradient; 0 does not clip.
        bf16: Run under bfloat16 autocast; weights stay float32.
        lora_rank: Train adapters of this rank on every linear layer but the head (Hu 2021), merged
            into the output; None trains all weights.
        gradient_checkpointing: Trade time for memory, where the model can.
        save_every: Steps between two states that a run can be resumed from; a tenth of all if None.

    Example:
        >>> Training(batch_size=8, accumulation=2).steps_of(batches=10, processes=1)
        5
    """

    optimizer: str = "adamw"
    epochs: float | None = None
    steps: int | None = None
    learning_rate: float | None = None
    warmup: float = 0.05
    weight_decay: float = 0.01
    batch_size: int = 32
    accumulation: int = 1
    clip: float = 1.0
    bf16: bool = False
    lora_rank: int | None = None
    gradient_checkpointing: bool = False
    save_every: int | None = None

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ArgumentError(
                f"optimizer {self.optimizer!r}: expected one of {', '.join(OPTIMIZERS)}"
            )
        if self.epochs is not None and self.steps is not None:
            raise ArgumentError("epochs and steps are both given", remedy="give one of them")
        for name in ("steps", "batch_size", "accumulation", "lora_rank", "save_every"):
            check_count(name, getattr(self, name))
        for name in ("weight_decay", "clip", "warmup"):
            _at_least(name, getattr(self, name), 0)
        for name in ("epochs", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ArgumentError(f"{_spoken(name)} must be a number above 0, found {value:g}")
        if self.warmup > 1:
            raise ArgumentError(f"warmup is a share of the steps, found {self.warmup:g}")

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
