"""Which groups of layers carry the rise of the loss from a model to a mean of two."""

from __future__ import annotations

from typing import Literal

from mergekit_geo.records import Record
from mergekit_geo.records.losses import DifferenceEntry, Estimate, Finite

Division = Literal["depth", "kind"]


class GroupEntry(Record):
    """One group of tensors, on the report half.

    Attributes:
        group: Such as `layers 0-3` or `attention`.
        division: `depth` (blocks of layers) or `kind` (of module): each is a partition of the
            tensors.
        tensors: How many are in it.
        parameters: Elements in them.
        rise_in: Leave-one-in: loss of the better model with this group at the mean, minus its own.
        rise_out: Leave-one-out: loss at the mean, minus that with this group back at the better
            model.
        share_in: Leave-one-in as a share of the whole rise; null where that is not significant.
        share_out: Leave-one-out likewise.
    """

    group: str
    division: Division
    tensors: int
    parameters: int
    rise_in: Estimate
    rise_out: Estimate
    share_in: Estimate | None
    share_out: Estimate | None


class LayersEntry(Record):
    """The rise from the better of two models to a mean of both, and each group's share in it.

    Shares need not sum to 1: what groups do together is in none of them (leave-one-in), or in
    several (leave-one-out).

    Attributes:
        set: Name of the evaluation set, where there are several.
        better: The model of lower loss on the selection half.
        other: The other one.
        weights: Of the first and the second model at the mean.
        rise: Loss at the mean minus that of the better model, on the report half.
        groups: By depth, then by kind.
        documents: How many documents all this is of: those of the report half.
        proposed: Loss at the weights that are proposed, minus that of each model and of the mean.
    """

    set: str = ""
    better: str
    other: str
    weights: list[float]
    rise: Estimate
    groups: list[GroupEntry]
    documents: int
    proposed: list[DifferenceEntry] = []


class GroupWeights(Record):
    """Weights of one group.

    Attributes:
        group: Its name.
        weights: One for each model.
        tensors: Names of its tensors.
    """

    group: str
    weights: list[float]
    tensors: list[str]


class ProposalEntry(Record):
    """Weights by group that had the lowest loss on the selection half, of those that were tried.

    Attributes:
        models: Names of the two.
        weights: Of all tensors that are in no group.
        groups: Groups with weights of their own; their tensors are in `layer_weights.json`.
        advice: The same in words.
        documents: How many documents it was chosen on.
        steps: What was tried, and its loss there.
    """

    models: list[str]
    weights: list[float]
    groups: list[tuple[str, list[float]]]
    advice: str
    documents: int
    steps: list[tuple[str, Finite]]


class WeightedModel(Record):
    """A model that weights are for.

    Attributes:
        name: As it was opened.
        digest: SHA-256 of its files; empty for a model in memory.
    """

    name: str
    digest: str


class LayerWeights(Record):
    """What `layer_weights.json` holds: weights of two models, by group of tensors.

    Attributes:
        version: Of this form.
        models: The two.
        weights: Of all tensors that are in no group.
        groups: With weights of their own.
        advice: Why, in words.
        documents: How many documents they were chosen on.
        seed: Of the halves of the data.
        data: Digest of each evaluation set, by its name.
    """

    version: int = 1
    models: list[WeightedModel]
    weights: list[float]
    groups: list[GroupWeights]
    advice: str = ""
    documents: int = 0
    seed: int = 0
    data: dict[str, str] = {}


class LayerMeasurements(Record):
    """Which layers did it.

    Attributes:
        sets: One entry for each evaluation set.
        proposal: Weights that are proposed; null where none are.
    """

    sets: list[LayersEntry]
    proposal: ProposalEntry | None = None
