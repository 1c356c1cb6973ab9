"""How a curve is fitted, checked where it is said."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mergekit_geo.errors import ArgumentError
from mergekit_geo.limits import check_count, check_finite

OPTIMIZERS = ("adamw", "sgd")
FITTED = ("bezier", "polygon", "neb")
"""Kinds of path that are fitted."""

NEB_BENDS, NEB_STEPS = 3, 200
"""Default number of bends that a chain starts with, and of steps of all its cycles."""


@dataclass(frozen=True)
class Fitting:
    """How a curve is fitted.

    Attributes:
        kind: `bezier`, `polygon`, or `neb` (AutoNEB), whose corners are pulled down across the path
            and which gets more where they are needed.
        bends: Control points or corners between the ends; None is 1, or 3 to begin with for `neb`.
        steps: Of the optimizer; None stops where the highest held-out loss falls no more, and is
            200 for `neb`, each with a gradient at every corner.
        optimizer: `adamw`, or `sgd` with momentum 0.9 and Nesterov's rule.
        learning_rate: None is 3 / sqrt(parameters), at most 3e-3, for AdamW: what fine-tuned
            transformers of 1e6 to 1e10 parameters take; 30 times as much for SGD.
        batch_size: Examples of a step, on each process.
        accumulation: Batches of a step, all at one t.
        clip: Largest norm of the bends' gradient.
        restarts: Fits from other seeds; the one with the lowest held-out maximum is kept.
        bf16: Run the module under bfloat16 autocast; bends stay float32.
        gradient_checkpointing: Trade time for memory, where the model can.
    """

    kind: str = "bezier"
    bends: int | None = None
    steps: int | None = None
    optimizer: str = "adamw"
    learning_rate: float | None = None
    batch_size: int = 32
    accumulation: int = 1
    clip: float = 1.0
    restarts: int = 1
    bf16: bool = False
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name, known in (("kind", FITTED), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in known:
                raise ArgumentError(
                    f"{name} {getattr(self, name)!r}: expected one of {', '.join(known)}"
                )
        for name, least in (("bends", 1), ("batch_size", 1), ("accumulation", 1), ("restarts", 1)):
            check_count(name, getattr(self, name), least)
        check_count("steps", self.steps, 0)
        for name in ("learning_rate", "clip"):
            check_finite(name, getattr(self, name))

    @property
    def corners(self) -> int:
        """Bends to begin with."""
        return self.bends or (NEB_BENDS if self.kind == "neb" else 1)

    @property
    def length(self) -> int:
        """Steps of all cycles of a chain."""
        return NEB_STEPS if self.steps is None else self.steps

    def rate(self, parameters: int) -> float:
        """The learning rate at its highest."""
        if self.learning_rate is not None:
            return self.learning_rate
        found = min(3e-3, 3 / math.sqrt(parameters))
        return found if self.optimizer == "adamw" else 30 * found
