"""What was found on each of several evaluation sets."""

from __future__ import annotations

from mergekit_geo.records import Record
from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.examples import ExamplesEntry
from mergekit_geo.records.losses import DifferenceEntry, Estimate, SetEntry
from mergekit_geo.records.tokenization import TokenizationEntry


class OutputSetEntry(SetEntry):
    """An output and its parents on one evaluation set.

    Attributes:
        reason: Why nothing was measured there; empty if it was.
        differences: The output minus each of the others.
        barriers: Between the parents.
        tokenization: How the parents' own tokenizers cut its texts.
        examples: Which examples changed; null where nothing was measured.
    """

    reason: str = ""
    differences: list[DifferenceEntry] = []
    barriers: list[BarrierEntry] = []
    tokenization: list[TokenizationEntry] = []
    examples: ExamplesEntry | None = None


class AcrossSets(Record):
    """An output beside the best parent of each set, over all sets.

    Attributes:
        mean: Mean over the sets of the output's loss minus that of the best parent there, each set
            counting by its weight.
        worst: The largest of these differences.
        worst_set: Where that is.
        relative: Whether each difference is divided by that parent's loss: the sets count in
            unlike units.
    """

    mean: Estimate
    worst: Estimate
    worst_set: str
    relative: bool = False
