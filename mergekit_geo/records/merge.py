"""A merge: its coefficients, and what was measured of parents and output."""

from __future__ import annotations

from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.curvature import SharpnessEntry
from mergekit_geo.records.losses import DifferenceEntry, LossEntry
from mergekit_geo.records.model import Geometry
from mergekit_geo.records.record import Record
from mergekit_geo.records.selection import SelectionEntry


class MergeCoefficients(Record):
    """How the anchors were combined; `merge.json` has it tensor by tensor.

    Attributes:
        method: Such as `linear` or `slerp`.
        weights: One per model, as applied (for SLERP, 1 - t and t).
        branches: How many tensors took which branch.
        kept: The share of each model's task vector that was kept, None for the base; empty where
            no elements are masked.
    """

    method: str
    weights: list[float]
    branches: dict[str, int]
    kept: list[float | None] = []


class MergeMeasurements(Record):
    """Result of a merge.

    Attributes:
        coefficients: How the models were combined.
        losses: Of parents and output, the output last.
        differences: Output minus each of the others.
        barriers: Between the parents.
        sharpness: Of parents and output.
        geometry: Where the parents lie.
        selection: What was chosen by loss; null where nothing was.
        unmerged: The model that the output is, where no other has a part in it; else null.
    """

    coefficients: MergeCoefficients
    losses: list[LossEntry]
    differences: list[DifferenceEntry]
    barriers: list[BarrierEntry]
    sharpness: list[SharpnessEntry]
    geometry: Geometry | None
    selection: SelectionEntry | None = None
    unmerged: str | None = None
