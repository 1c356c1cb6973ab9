"""What a recipe would do."""

from __future__ import annotations

from typing import ClassVar, Literal

from mergekit_geo.records import Record, Sparse
from mergekit_geo.records.merge import LayerSources


class PlanRow(Record):
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


class PlannedMember(Record):
    """A model that would be trained first.

    Attributes:
        name: What the recipe calls it.
        folder: Where it would be; null where it is gone afterwards.
        model: What it is trained from.
        train_data: On what.
        seed: Of its order of examples and its dropout.
        rho: Radius of SAM's ascent; 0 is the optimizer alone.
        examples: Of the training data; null where the model is not here yet to read them with.
        steps: Of the optimizer; null where that takes the number of examples.
        state: Whether it is there already, or an unfinished training of it.
        disk: Bytes of its weights and of the states that its training keeps; 0 if it is there.
    """

    name: str
    folder: str | None
    model: str
    train_data: str
    seed: int
    rho: float
    examples: int | None
    steps: int | None
    state: Literal["to be trained", "unfinished", "trained"]
    disk: int


class PlanMeasurements(Sparse):
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
        members: Models that would be trained first.
        layers: Where each layer is from, where layers are left out, repeated or moved.
        stages: Models that other recipes of the file would make first, in their order.
        sets: Where each evaluation set is from, by its name; only where there are several.
        memory: Bytes that the largest matrix takes, where matrices are merged whole.
    """

    only_if_held: ClassVar[tuple[str, ...]] = ("sets", "memory")

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
    members: list[PlannedMember] = []
    layers: list[LayerSources] = []
    stages: list[PlannedStage] = []
    sets: dict[str, str] = {}
    memory: int = 0


class PlannedStage(Record):
    """A model that another recipe of the file would make first.

    Attributes:
        name: What recipes call it.
        models: What they call the models that it is made of, in the order of the weights.
        folder: Where it would be kept.
        state: Whether it is there already, or an unfinished one.
        needs: Bytes that it still takes on the disk.
        plan: What its recipe would do.
    """

    name: str
    models: list[str]
    folder: str
    state: Literal["to be made", "unfinished", "made"]
    needs: int
    plan: PlanMeasurements


PlanMeasurements.model_rebuild()
