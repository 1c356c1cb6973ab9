"""How much of the sharpness is measured, and what gradients cost."""

from __future__ import annotations

from dataclasses import dataclass

from mergekit_geo.errors import ArgumentError

EXACT, DIFFERENCES = "exact", "finite differences"
PRODUCT_COST = 3.5
"""Cost of an exact product, in gradients (measured: 3.4 on a small Llama)."""

EVALUATION = 1 / 3
"""Cost of a loss without its gradient, in gradients."""

GROUPS = 8
"""Batches at least, where there are examples enough: the noise of the gradient is told by them."""


@dataclass(frozen=True)
class Level:
    """Amount of measuring: a level of the sharpness report.

    Attributes:
        name: `quick` or `full`.
        examples: Size of the sample where the user names none.
        method: Of Hessian-vector products.
        ends: `largest` eigenvalue, or `both`.
        steps: Most of Lanczos.
        half_steps: Most of Lanczos on every other batch.
        trace_products: Of the trace; 0 leaves it out.
        probes: Of the spectrum; 0 leaves it out.
        probe_steps: Of Lanczos, each.
        ascent_steps: Of each projected ascent; 0 leaves it out.
        restarts: Of the ascent.
        draws: Pairs of noise vectors of the adaptive average.
    """

    name: str
    examples: int
    method: str
    ends: str
    steps: int
    half_steps: int
    trace_products: int = 0
    probes: int = 0
    probe_steps: int = 0
    ascent_steps: int = 0
    restarts: int = 0
    draws: int = 0

    @property
    def product(self) -> float:
        """Cost of a Hessian-vector product, in gradients."""
        return PRODUCT_COST if self.method == EXACT else 2.0


LEVELS = {
    "quick": Level("quick", 64, DIFFERENCES, "largest", steps=12, half_steps=6),
    "full": Level(
        "full", 128, EXACT, "both", steps=40, half_steps=10, trace_products=60, probes=5,
        probe_steps=60, ascent_steps=20, restarts=2, draws=10,
    ),
}  # fmt: skip


def level_of(name: str) -> Level:
    """A level by its name.

    Raises:
        ArgumentError: No such level.
    """
    if name not in LEVELS:
        raise ArgumentError(f"sharpness {name!r}: expected one of {', '.join(LEVELS)}")
    return LEVELS[name]
