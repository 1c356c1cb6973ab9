"""Trials of a study that are over, and which of them counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mergekit_geo.searches.trial import DocumentLosses, Values


@dataclass(frozen=True)
class Finished:
    """A trial that is over.

    Attributes:
        number: Of the trial in its study.
        values: Its place in the space.
        told: What the sampler was told: one number, or one for each aim; none where it failed.
        lost: Largest significant rise of the loss on a set that is to be kept; 0 if there is none.
        interval: Of the value, at 95 %; None with several aims.
        stopped: Whether it was stopped, as it was significantly worse than a rival.
        share: What it cost, as a share of a full evaluation.
        seconds: How long it took.
        title: Of a point that the search began with; empty for one that the sampler drew.
        losses: Of every unit of the selection half; None where it was stopped, or failed.
        error: Why it could not be measured; empty where it could.

    Example:
        >>> Finished(0, {"t": 0.5}, (2.0,)).value
        2.0
    """

    number: int
    values: Values
    told: tuple[float, ...] = ()
    lost: float = 0.0
    interval: tuple[float, float] | None = None
    stopped: bool = False
    share: float = 1.0
    seconds: float = 0.0
    title: str = ""
    losses: DocumentLosses | None = None
    error: str = ""

    @property
    def value(self) -> float:
        """What the sampler was told, with one aim."""
        (value,) = self.told
        return value

    @property
    def is_whole(self) -> bool:
        """Whether it was measured to the end."""
        return bool(self.told) and not self.stopped


def best(trials: Iterable[Finished]) -> Finished | None:
    """The lowest value among trials that keep every set; None if there is no such trial.

    Args:
        trials: Of a study with one aim.

    Example:
        >>> best([Finished(0, {}, (2.0,)), Finished(1, {}, (1.0,), lost=0.1)]).number
        0
    """
    keeping = [trial for trial in trials if trial.is_whole and trial.lost <= 0]
    return min(keeping, key=lambda trial: (trial.value, trial.number), default=None)


def least_bad(trials: Iterable[Finished]) -> Finished | None:
    """The trial that loses least on the sets to keep, the lowest value among equals.

    Example:
        >>> least_bad([Finished(0, {}, (2.0,), 0.2), Finished(1, {}, (9.0,), 0.1)]).number
        1
    """
    whole = [trial for trial in trials if trial.is_whole]
    return min(whole, key=lambda trial: (trial.lost, trial.told, trial.number), default=None)


def front(trials: Iterable[Finished]) -> list[Finished]:
    """Trials that keep every set and that no other one dominates, by their first value.

    Of equal ones the first is taken.

    Example:
        >>> told = [(1.0, 3.0), (2.0, 2.0), (2.0, 4.0), (2.0, 2.0)]
        >>> [trial.number for trial in front(Finished(n, {}, at) for n, at in enumerate(told))]
        [0, 1]
    """
    keeping = [trial for trial in trials if trial.is_whole and trial.lost <= 0]
    found: list[Finished] = []
    for trial in sorted(keeping, key=lambda trial: (trial.told, trial.number)):
        if not any(_is_covered(trial.told, other.told) for other in found):
            found.append(trial)
    return found


def _is_covered(point: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the other one is nowhere worse; it comes first in the order of their values."""
    return all(mine >= its for mine, its in zip(point, other, strict=True))
