"""The loss at even places of the line between two models (WiSE-FT: Wortsman 2022b)."""

from __future__ import annotations

from mergekit_geo.records import Record
from mergekit_geo.records.losses import Estimate


class SweepPoint(Record):
    """One place on one evaluation set, of the report half.

    Attributes:
        t: The place: 0 is the first model, 1 the second.
        loss: Its loss, with the interval of it alone.
        from_first: Its loss minus that of the first model, on the same examples.
        from_second: Its loss minus that of the second.
        metric: The task's metric; null where the task has none.
    """

    t: float
    loss: Estimate
    from_first: Estimate
    from_second: Estimate
    metric: Estimate | None = None


class SweepEntry(Record):
    """A sweep over the places between two models.

    Attributes:
        first: The model at t = 0, of WiSE-FT the base.
        second: The model at t = 1, of WiSE-FT its fine-tune.
        along: Kind of path, such as `linear`.
        taken: Place that the output stands at, chosen on the selection half.
        sets: What was measured at each place, by the name of the set.
    """

    first: str
    second: str
    along: str
    taken: float
    sets: dict[str, list[SweepPoint]]
