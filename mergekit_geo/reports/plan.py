"""What a recipe would do."""

from __future__ import annotations

from mergekit_geo.reports.part import Part


class PlanRow(Part):
    """Tensors of one layer that share their coefficients.

    Attributes:
        layer: Its name, or that of a module outside the layers.
        tensors: Their names.
        weights: One per model; the method's own where the tensor's geometry has a say.
        densities: The share of elements that is kept, one per model; empty where none are masked.
    """

    layer: str
    tensors: list[str]
    weights: list[float]
    densities: list[float] = []


class PlanMeasurements(Part):
    """What a recipe would do.

    Attributes:
        method: The merge rule.
        by_geometry: Whether the weights are only where the method starts: SLERP and its like turn
            them into coefficients by the inner products of each tensor.
        by_loss: Whether they are chosen by loss, and not known before.
        rows: By layer; empty where nothing is fixed.
        tensors: Number of them.
        parameters: Number of elements.
        read: Bytes of weights that are read.
        written: Bytes of weights that are written.
        free: Bytes free where the output goes; None where it is kept in memory.
        dtype: Of the output, as the safetensors format names it.
    """

    method: str
    by_geometry: bool
    by_loss: bool
    rows: list[PlanRow]
    tensors: int
    parameters: int
    read: int
    written: int
    free: int | None
    dtype: str
