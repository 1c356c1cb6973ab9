"""What the losses of an output come to, for programs."""

from __future__ import annotations

from typing import Literal

from mergekit_geo.records import Record
from mergekit_geo.records.losses import Finite

Word = Literal["better", "worse", "no-difference", "cannot-tell"]


class Verdict(Record):
    """What the losses say of an output.

    `no-difference` is said only where a difference of 2 % of the loss would have been detected.

    Attributes:
        word: For programs.
        sentence: For people, with the numbers it rests on.
        model: What the output is held against: the best parent, or what was fine-tuned; null where
            no loss was measured.
        difference: The output's loss minus that model's, on the same examples.
        low: Lower end of its paired 95 % interval; null with too few documents.
        high: Upper end.
        detectable: The size of a difference that would be detected four times in five.
    """

    word: Word
    sentence: str
    model: str | None = None
    difference: Finite = None
    low: Finite = None
    high: Finite = None
    detectable: Finite = None
