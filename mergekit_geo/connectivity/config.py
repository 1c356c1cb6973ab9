"""How a curve is fitted."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mergekit_geo.config.optimization import OptimizationConfig
from mergekit_geo.config.option import option

FITTED = ("bezier", "polygon", "neb")
"""Kinds of path that are fitted."""

NEB_BENDS, NEB_STEPS = 3, 200
"""Default number of bends that a chain starts with, and of steps of all its cycles."""


@dataclass(frozen=True)
class CurveFitConfig(OptimizationConfig):
    """How a curve is fitted.

    The corners of `neb` (AutoNEB) are pulled down across the path, and it gets more where they are
    needed; its steps, 200 by default, have a gradient at every corner each. The learning rate is by
    default 3 / sqrt(parameters), at most 3e-3, for AdamW: what fine-tuned transformers of 1e6 to
    1e10 parameters take; 30 times as much for SGD. All
    batches of a step are at one t.
    """

    kind: str = option("bezier", "Bezier curve, straight pieces, or AutoNEB.", choices=FITTED)
    bends: int | None = option(None, "Between the ends: 1, or 3 to begin with for neb.", least=1)
    steps: int | None = option(
        None, "Of the optimizer; until the held-out top falls no more.", least=0
    )
    restarts: int = option(1, "Seeds; the best fit is kept.", least=1)

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
