"""How a report tells of fine-tuning."""

from __future__ import annotations

from typing import ClassVar

from mergekit_geo.records import Record, Sparse
from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.curvature import SharpnessEntry
from mergekit_geo.records.losses import DifferenceEntry, LossEntry
from mergekit_geo.records.sets import AcrossSets, OutputSetEntry


class TrainingEntry(Record):
    """How a model was trained.

    Attributes:
        steps: Of the optimizer.
        epochs: Times through the training data.
        batches: Of a step, over all processes.
        batch_size: Examples of each; null where they are the caller's.
        trained: Number of weights that were trained.
        lora_rank: Of adapters, where only those were trained.
        optimizer: `adamw` or `sgd`.
        learning_rate: The highest.
        rho: Radius of SAM's ascent; 0 is the optimizer alone.
        adaptive: Whether the ascent is scaled by the weights (ASAM).
        every: Steps from one ascent to the next.
        variant: `sam`, `momentum` or `look`.
        alpha: Weight of the part that LookSAM uses again; null for others.
        mode: Of the ascent: `per-replica` or `synchronised`; `off` with a radius of 0.
        ascents: Steps that climbed first.
        passes: Backward passes of a process.
        skipped: Steps that were not made, as a loss or gradient was not finite.
        history: Step, and the mean training loss of the steps up to there since the entry before.
    """

    steps: int
    epochs: float
    batches: int
    batch_size: int | None
    trained: int
    lora_rank: int | None
    optimizer: str
    learning_rate: float
    rho: float
    adaptive: bool
    every: int
    variant: str = "sam"
    alpha: float | None = None
    mode: str
    ascents: int
    passes: int
    skipped: int
    history: list[tuple[int, float]]


class BeforeAndAfter(Sparse):
    """A model before and after; of several sets, losses, differences and barriers are of the first.

    Attributes:
        losses: Before and after, on the same held-out examples.
        differences: After minus before.
        barriers: On the straight line from before to after.
        sharpness: Before and after.
        sets: The same on every set, by its name; only where there are several.
        across: After beside before, over all sets; only where there are several.
    """

    only_if_held: ClassVar[tuple[str, ...]] = ("sets", "across")

    losses: list[LossEntry]
    differences: list[DifferenceEntry]
    barriers: list[BarrierEntry]
    sharpness: list[SharpnessEntry]
    sets: dict[str, OutputSetEntry] = {}
    across: AcrossSets | None = None


class FinetuneMeasurements(BeforeAndAfter):
    """Result of fine-tuning.

    Attributes:
        training: How.
    """

    training: TrainingEntry


class MemberEntry(Record):
    """One of several models trained alike.

    Attributes:
        folder: Where it is.
        seed: Of its order of examples and its dropout.
        measured: What its own report says.
    """

    folder: str
    seed: int
    measured: FinetuneMeasurements


class MembersMeasurements(Record):
    """Result of fine-tuning several models from one.

    Attributes:
        members: Each of them.
        soup: The command that averages them.
    """

    members: list[MemberEntry]
    soup: str
