"""How SAM steps, checked where it is said."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mergekit_geo.config.option import check, option
from mergekit_geo.errors import ArgumentError

AUTO, PER_REPLICA, SYNCHRONISED = "auto", "per-replica", "synchronised"
ASCENTS = (AUTO, PER_REPLICA, SYNCHRONISED)


@dataclass(frozen=True)
class SamArguments:
    """How SAM steps; stands next to TrainingArguments, in HfArgumentParser too.

    A parameter group of the optimizer may have a radius of its own, under the key `rho`. Adaptive
    SAM (Kwon 2021) adds `eta` to |w|, so that a weight of zero moves too. By an ascent
    `per-replica` each process climbs by its own gradient, `synchronised` all by the mean; `auto` is
    per replica, unless the weights are sharded (FSDP2).

    Example:
        >>> SamArguments(rho=0.1).every
        1
    """

    rho: float = option(0.05, "Radius of SAM's ascent; 0 is the optimizer alone.")
    adaptive: bool = option(False, "Scale the ascent by the weights (ASAM); rho 0.5 to 2.")
    eta: float = option(0.01, "Added to the weights' size in ASAM.", "")
    every: int = option(1, "Ascend at every n-th step only.", least=1)
    ascent: str = option(AUTO, "Whose gradient is climbed, of several processes.", choices=ASCENTS)
    most_skipped: int = option(10, "Stop after so many non-finite steps in a row.", "", least=1)

    def __post_init__(self) -> None:
        check_radius(self.rho)
        if not 0 <= self.eta < math.inf:
            raise ArgumentError(f"eta: expected a number of at least 0, found {self.eta:g}")
        check(self)


def check_radius(rho: float, where: str = "") -> float:
    """Check that a radius is at least 0 and finite, and return it.

    Raises:
        ArgumentError: It is negative, infinite or not a number.
    """
    if not 0 <= rho < math.inf:
        raise ArgumentError(f"rho: expected a number of at least 0, found {rho:g}", where=where)
    return rho
