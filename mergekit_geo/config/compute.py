"""How models are run."""

from __future__ import annotations

from dataclasses import dataclass

from mergekit_geo.clock import MINUTES
from mergekit_geo.config.option import check, option
from mergekit_geo.errors import ArgumentError

COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
ANCHORS_IN_MEMORY = ("auto", "on", "off")
PANEL = "Compute"


@dataclass(frozen=True)
class Compute:
    """How models are run.

    Without a device it is the accelerator, if there is one. Without a dtype it is float32 on a CPU
    and the checkpoint's own on an accelerator. Parents are kept in memory by themselves (`auto`)
    where they are small.
    """

    device: str | None = option(None, "Such as cpu or cuda.", panel=PANEL)
    dtype: str | None = option(
        None, "Of the evaluation.", "--compute-dtype", panel=PANEL, choices=COMPUTE_DTYPES
    )
    budget: float = option(MINUTES, "Minutes of evaluation; 0 is no limit.", panel=PANEL)
    trust_remote_code: bool = option(False, "Run code that comes with a model.", panel=PANEL)
    anchors_in_memory: str = option(
        "auto", "Keep parents in memory on a path.", panel=PANEL, choices=ANCHORS_IN_MEMORY
    )

    def __post_init__(self) -> None:
        check(self)
        if self.budget < 0:
            raise ArgumentError(f"the budget is in minutes, found {self.budget:g}")
