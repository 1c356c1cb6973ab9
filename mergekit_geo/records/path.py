"""How a report, and `path.json`, tell of a fitted path."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from mergekit_geo.records import Record, Sparse
from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.losses import Estimate, LossEntry, SetEntry

PATH_VERSION = 1


class EndEntry(Record):
    """A model at an end of a path.

    Attributes:
        name: What the user called it.
        revision: Commit of the Hub, where it comes from there.
        reference: What opens just this model again; empty in paths of earlier releases.
        digest: SHA-256 of configuration and weights; empty for a model in memory.
    """

    name: str
    revision: str | None
    reference: str = ""
    digest: str


class SaddleEntry(Record):
    """The highest point between the ends.

    Attributes:
        t: Where, found on the selection half.
        loss: There, on the report half.
    """

    t: float
    loss: Estimate


class PathSetEntry(SetEntry):
    """A path and the segment between its ends on one evaluation set.

    Attributes:
        straight: Loss along the segment.
        fitted: Loss along the path.
        removed: Share of the segment's barrier that the path avoids; null where there is none.
        saddle: The highest point of the path; null where that is an end.
    """

    straight: BarrierEntry
    fitted: BarrierEntry
    removed: float | None
    saddle: SaddleEntry | None


class PathMeasurements(Sparse):
    """Result of fitting a path; of several sets, on the first of them.

    Attributes:
        kind: `bezier`, `polygon` or `neb`.
        bends: Number of bends.
        steps: Of the fit that was kept.
        seed: Of it.
        seconds: Of all steps of all fits.
        history: Step, and the highest held-out loss on the way there, on the selection half.
        straight: Loss along the segment between the ends.
        fitted: Loss along the path.
        removed: Share of the segment's barrier that the path avoids; null where there is none.
        length_ratio: Length of the path over the distance of its ends.
        lowest_t: Where the loss is lowest, chosen on the selection half.
        losses: Of the ends, on the report half.
        places: t of each bend, where they are not even.
        saddle: The highest point of the path; null where that is an end.
        sets: The same on every set, by its name; only where there are several.
    """

    only_if_held: ClassVar[tuple[str, ...]] = ("sets",)

    kind: Literal["bezier", "polygon", "neb"]
    bends: int
    steps: int
    seed: int
    seconds: float = 0.0
    history: list[tuple[int, float]]
    straight: BarrierEntry
    fitted: BarrierEntry
    removed: float | None
    length_ratio: float
    lowest_t: float
    losses: list[LossEntry]
    places: list[float] | None = None
    saddle: SaddleEntry | None = None
    sets: dict[str, PathSetEntry] = {}


class PathRecord(Record):
    """`path.json`.

    Attributes:
        path_version: Of this form.
        ends: The models at t = 0 and t = 1.
        bends_digest: SHA-256 of `bends.safetensors`.
        settings: Of the fit.
        measured: What was found.
    """

    path_version: int = PATH_VERSION
    ends: list[EndEntry]
    bends_digest: str
    settings: dict[str, Any]
    measured: PathMeasurements
