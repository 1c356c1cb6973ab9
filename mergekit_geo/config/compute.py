"""How models are run, checked where it is said."""

from __future__ import annotations

from dataclasses import dataclass

from mergekit_geo.clock import MINUTES
from mergekit_geo.errors import ArgumentError
from mergekit_geo.limits import check_finite

COMPUTE_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Compute:
    """How models are run.

    Attributes:
        device: Such as `cpu` or `cuda`; the accelerator if there is one when None.
        dtype: Of the arithmetic: `float32`, `bfloat16`, `float16`. None is float32 on a CPU and the
            checkpoint's own on an accelerator.
        budget: Minutes that all evaluation of one command may take; 0 is no limit.
        trust_remote_code: Run code that comes with a checkpoint.
        anchors_in_memory: Keep the parents in memory while a model moves between them: `on`, `off`,
            or `auto` where they are small.
    """

    device: str | None = None
    dtype: str | None = None
    budget: float = MINUTES
    trust_remote_code: bool = False
    anchors_in_memory: str = "auto"

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in COMPUTE_DTYPES:
            raise ArgumentError(
                f"compute dtype {self.dtype!r}: expected one of {', '.join(COMPUTE_DTYPES)}"
            )
        check_finite("budget", self.budget)
        if self.budget < 0:
            raise ArgumentError(f"the budget is in minutes, found {self.budget:g}")
