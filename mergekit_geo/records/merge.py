"""A merge: its coefficients, what it chose by loss, what was measured of parents and output."""

from __future__ import annotations

from typing import Any, ClassVar

from mergekit_geo.records import Record, Sparse
from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.curvature import SharpnessEntry
from mergekit_geo.records.entropy import EntropyEntry
from mergekit_geo.records.examples import ExamplesEntry
from mergekit_geo.records.influence import InfluenceEntry
from mergekit_geo.records.layers import LayerMeasurements
from mergekit_geo.records.losses import DifferenceEntry, LossEntry
from mergekit_geo.records.model import Geometry
from mergekit_geo.records.search import SearchEntry
from mergekit_geo.records.sets import AcrossSets, OutputSetEntry
from mergekit_geo.records.statistics import StatisticEntry
from mergekit_geo.records.sweep import SweepEntry
from mergekit_geo.records.tokenization import TokenizationEntry


class MergeCoefficients(Sparse):
    """How the anchors were combined; `merge.json` has it tensor by tensor.

    Attributes:
        method: Such as `linear` or `slerp`.
        weights: One per model, as applied (for SLERP, 1 - t and t).
        branches: How many tensors took which branch.
        kept: The share of each model's task vector that was kept, None for the base; empty where
            no elements are masked.
        error: The largest relative error of a tensor's factorisation or solution, where matrices
            are merged whole.
        recipe: The merge as a recipe that `geo-merge run` takes, without data; null where none
            says it, as for models in memory.
    """

    only_if_held: ClassVar[tuple[str, ...]] = ("error",)

    method: str
    weights: list[float]
    branches: dict[str, int]
    kept: list[float | None] = []
    error: float | None = None
    recipe: dict[str, Any] | list[dict[str, Any]] | None = None


class SelectionEntry(Sparse):
    """What was chosen by loss, on the selection half.

    Attributes:
        method: Such as `greedy`, `learned` or `best along linear`.
        chosen: The choice in words.
        documents: How many documents it was chosen on.
        steps: What was tried, and its loss there.
        left_out: Models outside the largest basin, and why.
        sharpness: λ_max on the selection half, of the points that were compared by it.
        started_from: Where a learned soup started: the best parent, the uniform or the greedy soup.
        aim: What was minimised in place of a loss; only where there are several sets.
    """

    only_if_held: ClassVar[tuple[str, ...]] = ("aim",)

    method: str
    chosen: str
    documents: int
    steps: list[tuple[str, float]]
    left_out: list[str] = []
    sharpness: list[tuple[str, float]] = []
    started_from: str | None = None
    aim: str = ""


class LayerSources(Record):
    """Where a layer of an output is from, whose layers are not its models' one for one.

    Attributes:
        layer: Its name, such as `model.layers.5`.
        sources: The models that it is made of, the base first, and the layer of each.
    """

    layer: str
    sources: list[tuple[str, int]]


class MergeMeasurements(Sparse):
    """Result of a merge; of several sets, losses, differences and barriers are those of the first.

    Attributes:
        coefficients: How the models were combined.
        losses: Of parents and output, the output last.
        differences: Output minus each of the others.
        barriers: Between the parents.
        sharpness: Of parents and output.
        geometry: Where the parents lie.
        tokenization: How the parents' own tokenizers cut the texts, where they are others than the
            output's.
        influence: Of the layers of parents and output, where these have other layers.
        selection: What was chosen by loss; null where nothing was.
        unmerged: The model that the output is, where no other has a part in it; else null.
        layers: Where each layer is from, where layers are left out, repeated or moved.
        sets: The same on every set, by its name; only where there are several.
        across: The output beside the best parent of each set; only where there are several.
        by_layer: Which layers did it; only where a mean of two models is worse than one of them.
        examples: Which examples changed; only where losses were measured.
        search: What was tried in a search, of which the output is the best.
        sweep: Losses at even places between two models; only where a sweep was asked for.
        statistics: What was computed of the models on data of theirs; only where the method needs
            such data.
        entropy: How coefficients were found by the entropy of predictions; only where they were.
    """

    only_if_held: ClassVar[tuple[str, ...]] = (
        "sets", "across", "by_layer", "examples", "search", "sweep", "statistics", "entropy",
    )  # fmt: skip

    coefficients: MergeCoefficients
    losses: list[LossEntry]
    differences: list[DifferenceEntry]
    barriers: list[BarrierEntry]
    sharpness: list[SharpnessEntry]
    geometry: Geometry | None
    tokenization: list[TokenizationEntry] = []
    influence: list[InfluenceEntry] = []
    selection: SelectionEntry | None = None
    unmerged: str | None = None
    layers: list[LayerSources] = []
    sets: dict[str, OutputSetEntry] = {}
    across: AcrossSets | None = None
    by_layer: LayerMeasurements | None = None
    examples: ExamplesEntry | None = None
    search: SearchEntry | None = None
    sweep: SweepEntry | None = None
    statistics: list[StatisticEntry] = []
    entropy: EntropyEntry | None = None
