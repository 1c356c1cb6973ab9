"""How anything is optimised on training data, whatever it is."""

from __future__ import annotations

from dataclasses import dataclass

from mergekit_geo.config.option import check, option

OPTIMIZERS = ("adamw", "sgd")


@dataclass(frozen=True, kw_only=True)
class OptimizationConfig:
    """How anything is optimised on training data.

    SGD has momentum 0.9 and Nesterov's rule. Weights stay float32 under autocast.
    """

    optimizer: str = option("adamw", "What takes the steps.", choices=OPTIMIZERS)
    learning_rate: float | None = option(
        None, "Learning rate; by the size of the model if not.", "--lr"
    )
    batch_size: int = option(32, "Examples of a batch.", "--train-batch-size", least=1)
    accumulation: int = option(1, "Batches of a step.", "--gradient-accumulation", least=1)
    clip: float = option(1.0, "Largest norm of the gradient; 0 does not clip.", "")
    bf16: bool = option(False, "Run under bfloat16 autocast.")
    gradient_checkpointing: bool = option(False, "Less memory, more time.")

    def __post_init__(self) -> None:
        check(self)
