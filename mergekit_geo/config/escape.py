"""How a saddle is left: what is looked at, and the constants of the descent that follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mergekit_geo.config.docstrings import described
from mergekit_geo.config.option import check, like, option
from mergekit_geo.config.training import OptimizationConfig
from mergekit_geo.errors import ArgumentError

PERTURBED, SGD, NONE = "perturbed", "sgd", "none"
THEN = (PERTURBED, SGD, NONE)
PANEL = "Descent"

FALL = 1e-3
"""Share of the loss that counts as a fall."""


@described
@dataclass(frozen=True)
class EscapeConfig:
    """How a saddle is looked for, and what follows the step out of it.

    Perturbed gradient descent (Jin 2017) has four constants, which its proof makes of bounds that
    nobody knows. Here they follow from two measured numbers: ℓ, the largest eigenvalue of the
    Hessian in size, and f, the fall of the loss that counts. The step is 1/ℓ; a gradient is small
    where such a step promises a fall of at most f, that is up to g = sqrt(2 ℓ f); the radius is
    r = g/ℓ, as in the paper, at which a parabola of curvature ℓ has risen by f; and a perturbation
    has failed if the loss has not fallen by f within the time-out. A step that would raise the loss
    is not made: ℓ is doubled instead.

    Example:
        >>> EscapeConfig(steps=40).every
        4
    """

    then: str = option(
        PERTURBED, "What follows the step along the eigenvector of λ_min: perturbed gradient "
        "descent (Jin 2017), SGD, or none.", choices=THEN,
    )  # fmt: skip
    lanczos_steps: int = option(
        40, "Most Hessian-vector products of each search for λ_min.", least=2
    )
    examples: int = option(
        256, "Training examples that losses, gradients and curvature are of; 0 takes all.", least=0
    )
    gradient_threshold: float | None = option(
        None, "Norm of the gradient up to which a point is critical, and is perturbed.",
        panel=PANEL, unset="where a step promises a fall of at most --fall",
    )  # fmt: skip
    steps: int = option(200, "Most gradient steps after the step out.", panel=PANEL, least=0)
    timeout: int = option(
        100, "Steps after a perturbation in which the loss has to fall by --fall.", panel=PANEL,
        least=1,
    )  # fmt: skip
    fall: float | None = option(
        None, "Fall of the training loss that counts.", panel=PANEL, unset="0.001 of the loss"
    )
    radius: float | None = option(
        None, "Radius of the ball that perturbations are drawn from: a distance in weight space.",
        panel=PANEL, unset="where a parabola of curvature ℓ rises by --fall",
    )  # fmt: skip
    learning_rate: float | None = like(
        OptimizationConfig, "learning_rate", panel=PANEL, unset="1/ℓ; a tenth of it for sgd"
    )
    batch_size: int = like(OptimizationConfig, "batch_size", panel=PANEL)
    save_every: int | None = option(
        None, "Steps between saved states, which an interrupted run goes on from.", panel=PANEL,
        least=1, unset="a tenth of the steps",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name in ("gradient_threshold", "fall", "radius", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                spoken = name.replace("_", "-")
                raise ArgumentError(f"{spoken} must be a number above 0, found {value:g}")
        check(self)

    @property
    def every(self) -> int:
        """Steps between saved states."""
        return self.save_every or max(1, self.steps // 10)
