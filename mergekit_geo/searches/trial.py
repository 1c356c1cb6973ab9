"""One trial of a search: what is asked of whoever measures it, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mergekit_geo.tasks.losses import Floats

Values = Mapping[str, float | str]
"""A number for each range of a space, a label for each choice, by their names."""

DocumentLosses = tuple[Floats, ...]
"""Losses of every unit of each set's selection half (an example, or a document where its examples
belong together) in the order of the schedule: (n,), fewer where a trial was stopped."""


@dataclass(frozen=True)
class Trial:
    """What is to be measured.

    Attributes:
        number: Of the trial in its study.
        values: Its place in the space.
        rivals: Losses of what it runs against: the incumbent, or the points of the front.
        known: Losses of further trials, the latest first: they foretell what this one has not met.
    """

    number: int
    values: Values
    rivals: tuple[DocumentLosses, ...] = ()
    known: tuple[DocumentLosses, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        number: Of the trial.
        losses: Of every unit; of those that were measured where it was stopped.
        stopped: Whether it was stopped, as it is significantly worse than a rival.
        share: What it cost, as a share of a full evaluation.
        seconds: How long it took.
        error: Why it could not be measured; empty where it could.
    """

    number: int
    losses: DocumentLosses
    stopped: bool = False
    share: float = 1.0
    seconds: float = 0.0
    error: str = ""


Measure = Callable[[Trial], Outcome]
"""Measures trials, one after the other, in the process that it was opened in."""
