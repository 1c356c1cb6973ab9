"""How SAM steps, checked where it is said."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from mergekit_geo.errors import ArgumentError
from mergekit_geo.limits import check_count

AUTO, PER_REPLICA, SYNCHRONISED = "auto", "per-replica", "synchronised"
ASCENTS = (AUTO, PER_REPLICA, SYNCHRONISED)


def _said(default: object, text: str) -> Any:
    """A field whose help transformers' HfArgumentParser shows."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class SamArguments:
    """How SAM steps; stands next to TrainingArguments, in HfArgumentParser too.

    Attributes:
        rho: Radius of the ascent; 0 is the base optimizer exactly. A parameter group of the
            optimizer may have its own, under the key `rho`.
        adaptive: Scale the ascent by the weights (ASAM; Kwon 2021), with radii of 0.5 to 2.
        eta: Added to |w| in adaptive SAM, so that a weight of zero moves too.
        every: Ascend at every n-th step only; the others are those of the base optimizer.
        ascent: `per-replica`: each process climbs by its own gradient; `synchronised`: all climb by
            the mean; `auto`: per replica, unless the weights are sharded (FSDP2).
        most_skipped: Stop after so many steps in a row whose loss or gradient is not finite.

    Example:
        >>> SamArguments(rho=0.1).every
        1
    """

    rho: float = _said(0.05, "Radius of SAM's ascent; 0 is the base optimizer.")
    adaptive: bool = _said(False, "Scale the ascent by the weights (ASAM).")
    eta: float = _said(0.01, "Added to the weights' size in ASAM.")
    every: int = _said(1, "Ascend at every n-th step only.")
    ascent: str = _said(AUTO, f"Whose gradient is climbed: {', '.join(ASCENTS)}.")
    most_skipped: int = _said(10, "Stop after so many non-finite steps in a row.")

    def __post_init__(self) -> None:
        check_radius(self.rho)
        if not 0 <= self.eta < math.inf:
            raise ArgumentError(f"eta: expected a number of at least 0, found {self.eta:g}")
        for name in ("every", "most_skipped"):
            check_count(name, getattr(self, name))
        if self.ascent not in ASCENTS:
            raise ArgumentError(f"ascent {self.ascent!r}: expected one of {', '.join(ASCENTS)}")


def check_radius(rho: float, where: str = "") -> float:
    """Check that a radius is at least 0 and finite, and return it.

    Raises:
        ArgumentError: It is negative, infinite or not a number.
    """
    if not 0 <= rho < math.inf:
        raise ArgumentError(f"rho: expected a number of at least 0, found {rho:g}", where=where)
    return rho
