"""What the losses of an output come to, for programs."""

from __future__ import annotations

from typing import ClassVar, Literal

from mergekit_geo.records import Record, Sparse
from mergekit_geo.records.losses import Estimate, Finite

Word = Literal["better", "worse", "no-difference", "cannot-tell"]


class ScoreVerdict(Record):
    """What the task's metric says of an output.

    `no-difference` is said only where a difference of 2 points in 100 would have been detected.

    Attributes:
        word: For programs; a higher metric is better.
        metric: What it is called, such as `accuracy`.
        model: The parent with the highest.
        difference: The output's metric minus that, on the same examples.
        low: Lower end of its paired 95 % interval; null with too few documents.
        high: Upper end.
        detectable: The size of a difference that would be detected four times in five.
    """

    word: Word
    metric: str
    model: str
    difference: Finite = None
    low: Finite = None
    high: Finite = None
    detectable: Finite = None

    @property
    def estimate(self) -> Estimate:
        """The difference as an estimate."""
        return Estimate(
            value=self.difference, low=self.low, high=self.high, detectable=self.detectable
        )


class Verdict(Sparse):
    """What the losses say of an output.

    `no-difference` is said only where a difference of 2 % of the loss would have been detected. On
    several evaluation sets the word is `worse` if it is so on one of them, else `cannot-tell` if it
    is so on one, else `better` if it is so on one; and the numbers are those of a set of this word.

    Attributes:
        word: For programs.
        sentence: For people, with the numbers it rests on.
        model: What the output is held against: the best parent, or what was fine-tuned; null where
            no loss was measured.
        difference: The output's loss minus that model's, on the same examples.
        low: Lower end of its paired 95 % interval; null with too few documents.
        high: Upper end.
        detectable: The size of a difference that would be detected four times in five.
        score: The same of the task's metric; only in the verdict on one of several sets.
        on: The set that the numbers are of; only where there are several.
        sets: The verdict on each set, by its name; only where there are several.
    """

    only_if_held: ClassVar[tuple[str, ...]] = ("score", "on", "sets")

    word: Word
    sentence: str
    model: str | None = None
    difference: Finite = None
    low: Finite = None
    high: Finite = None
    detectable: Finite = None
    score: ScoreVerdict | None = None
    on: str | None = None
    sets: dict[str, Verdict] = {}
