"""A search over the numbers of a recipe: what was tried, the best of it, and what that is worth."""

from __future__ import annotations

from typing import ClassVar

from mergekit_geo.records import Record, Sparse
from mergekit_geo.records.losses import Estimate, Finite, LossEntry, SetEntry


class DimensionEntry(Sparse):
    """What was searched over: a range of numbers, or labels.

    Attributes:
        name: Such as `weight of prose`, `density` or `merge_method`.
        low: Lower end of a range; null for labels.
        high: Its upper end.
        log: Whether the range is searched on a logarithmic scale.
        labels: What there is to choose from, in place of a range.
        when: The choice it hangs on, such as `merge_method: ties`; only where it hangs on one.
    """

    only_if_held: ClassVar[tuple[str, ...]] = ("log", "labels", "when")

    name: str
    low: Finite = None
    high: Finite = None
    log: bool = False
    labels: list[str] = []
    when: str = ""


class TrialEntry(Sparse):
    """One trial, on the selection half.

    Attributes:
        number: In the study.
        values: A number for each range, a label for each choice that hangs on no other choice or
            on the one that was made.
        value: What it counts, lower is better: over several sets the aim, on one set its loss; the
            mean so far where it was stopped; null where several sets are minimised side by side,
            and where it could not be measured.
        low: Lower end of the value's 95 % interval over documents; null with too few of them.
        high: Upper end.
        by_set: On each set the loss minus that of the best model there; only where there are
            several.
        stopped: Whether racing stopped it, as it is significantly worse than the best so far.
        share: What it cost, as a share of a full evaluation.
        lost: Largest significant rise of the loss on a set that is to be kept; 0 where it keeps
            all of them.
        title: What it is, such as `default recipe`, where the sampler did not choose it; two that
            are one point are joined by `and`.
        seconds: How long it took.
        error: Why it could not be measured; only there where it could not.
        report: On each set the loss minus that of the best model there, on the report half; only
            of points of the front.
    """

    only_if_held: ClassVar[tuple[str, ...]] = (
        "by_set", "stopped", "lost", "title", "error", "report",
    )  # fmt: skip

    number: int
    values: dict[str, float | str]
    value: Finite = None
    low: Finite = None
    high: Finite = None
    by_set: dict[str, Finite] = {}
    stopped: bool = False
    share: float = 1.0
    lost: float = 0.0
    title: str = ""
    seconds: float = 0.0
    error: str = ""
    report: dict[str, Estimate] = {}

    @property
    def starts(self) -> list[str]:
        """Titles of the starts that this trial is, one by one."""
        return self.title.split(" and ") if self.title else []

    @property
    def is_feasible(self) -> bool:
        """Whether it keeps all sets that are to be kept."""
        return self.lost <= 0

    @property
    def is_whole(self) -> bool:
        """Whether it was measured on all documents of the selection half."""
        return not self.stopped and not self.error


class ReferenceSetEntry(Record):
    """A reference on one evaluation set, on the report half.

    Attributes:
        loss: Its own.
        difference: Loss of the output minus that, paired.
    """

    loss: float
    difference: Estimate


class ReferenceEntry(Record):
    """What the output of a search is held against, on the report half.

    Attributes:
        title: Such as `default recipe`, `uniform soup` or `best parent`.
        model: Which parent it is, or other name of a model; empty for a point of the space.
        difference: What the output counts minus what this counts, paired; negative means that the
            output is better. On one set it is a difference of losses.
        limit: Size of such a difference that matters: 2 % of the loss.
        sets: The same on each set; losses, not what they count.
    """

    title: str
    model: str = ""
    difference: Estimate
    limit: float
    sets: dict[str, ReferenceSetEntry] = {}


class SearchEntry(Sparse):
    """A search, and what it came to.

    Attributes:
        sampler: Which chose the values, such as `cmaes` or `tpe`.
        engine: Which ran the trials: `local` or `ray`.
        study: Name under which its storage keeps it.
        storage: A file, or the kind of a database; empty where nothing keeps it.
        aim: What was minimised, in words; empty for the loss on one set.
        aims: Sets whose losses were minimised side by side; empty where one number was.
        kept: Sets that were to be kept.
        racing: Whether trials were stopped once they were significantly worse than the best so far.
        asked: How many trials were asked for; null where evaluations were counted in their place.
        dimensions: What was searched over.
        trials: All that were finished, by number.
        best: Number of the one that counts least among those that keep all that is to be kept;
            null where none does, and where several sets were minimised side by side.
        front: Numbers of those that no other is better than on every set; only where several sets
            were minimised side by side.
        taken: Number of the one that the output is; null where none was written.
        evaluations: What all trials cost together; 1 is every document of the selection half once.
        saved: What trials that were stopped would have cost more.
        importance: Share of each dimension in the variance of the value (fANOVA); empty where that
            cannot be told.
        documents: How many documents the selection halves have.
        selection: What the one that was taken counts on the selection half: over several sets the
            aim, on one set its loss minus that of the best model.
        report: The same on the report half.
        optimism: Report minus selection: by how much the best of many looked better on the
            documents that it was chosen on than it is on others.
        references: What the output is held against; empty where none was written.
        better_than_default: Whether the output is significantly better than the default recipe on
            the report half; null where no output or no default recipe was measured.
        interrupted: Whether it was asked to finish before all trials were done.
    """

    only_if_held: ClassVar[tuple[str, ...]] = (
        "storage", "aim", "aims", "kept", "front", "references", "interrupted",
    )  # fmt: skip

    sampler: str
    engine: str
    study: str
    storage: str = ""
    aim: str = ""
    aims: list[str] = []
    kept: list[str] = []
    racing: bool = True
    asked: int | None = None
    dimensions: list[DimensionEntry]
    trials: list[TrialEntry]
    best: int | None = None
    front: list[int] = []
    taken: int | None = None
    evaluations: float
    saved: float = 0.0
    importance: dict[str, float] = {}
    documents: int
    selection: Estimate | None = None
    report: Estimate | None = None
    optimism: Estimate | None = None
    references: list[ReferenceEntry] = []
    better_than_default: bool | None = None
    interrupted: bool = False

    def trial(self, number: int | None) -> TrialEntry | None:
        """The trial of a number; None where there is none.

        Args:
            number: In the study.
        """
        return next((trial for trial in self.trials if trial.number == number), None)


class SearchMeasurements(Sparse):
    """Result of a search that wrote no merge; of several sets, losses are those of the first.

    Attributes:
        search: What was tried.
        losses: Of the parents and of what a merge would be held against, on the report half.
        sets: The same on every set, by its name; only where there are several.
    """

    only_if_held: ClassVar[tuple[str, ...]] = ("sets",)

    search: SearchEntry
    losses: list[LossEntry]
    sets: dict[str, SetEntry] = {}
