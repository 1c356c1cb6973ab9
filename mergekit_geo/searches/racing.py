"""Whether a trial is stopped before it has met all examples, and what it counts then.

A trial is stopped at a look if it is significantly worse than a rival, which has met all examples:
than the best so far or, under `pareto`, than a point of the front on every set. What is tested is
the rise on all examples of the selection half, told from those met (`rise.py`), so that the best
trial there, which is what a search without racing finds, is stopped with a probability of at most
5 %. That is shared by the looks (alpha spending, Lan and DeMets 1983), and at each by what is
tested (a union bound): by the sets that can be the worst, by the points of a front, by the aim and
each set that is kept. How often it happens, and what it saves: `benchmarks/racing.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mergekit_geo.searches.rise import Flags, Rise, scale_of_unmet
from mergekit_geo.searches.schedule import FEWEST, Schedule, SetOrder
from mergekit_geo.searches.scores import Scores, mean_of_units
from mergekit_geo.searches.trial import DocumentLosses
from mergekit_geo.tasks.losses import Floats

if TYPE_CHECKING:
    from mergekit_geo.evaluation.aim import Aim

LEVEL = 0.035
"""What is spent on all looks; the rest up to 5 % is for what a test of few units gets wrong."""
KNOWN = 8
"""Trials that foretell what another has not met, at most."""
UNITS_EACH = 6
"""Units met for each of them, at least."""
_NOISE = 1e-4
"""What sets the losses of equal models apart in float arithmetic."""


@dataclass(frozen=True, eq=False)
class Race(Scores):
    """Compares trials by their losses on the units of every set, in the order of a schedule.

    Losses of what is looked at may be those of the first units only; a rival's are complete.

    Attributes:
        pareto: Whether every set is an aim of its own.
    """

    pareto: bool = False

    @classmethod
    def of(cls, schedule: Schedule, aim: Aim, *, pareto: bool = False) -> Race:
        """The race for an aim over the sets of an evaluator.

        Args:
            schedule: Of the same evaluator.
            aim: How its points are compared.
            pareto: Whether every set is an aim of its own.
        """
        return cls(schedule, aim.config, tuple(aim.weights), tuple(aim.scales), pareto)

    def is_worse(
        self,
        losses: DocumentLosses,
        look: int,
        rivals: Sequence[DocumentLosses],
        known: Sequence[DocumentLosses] = (),
    ) -> bool:
        """Whether a trial is to be stopped at a look.

        Never at the last one, and never for rivals that lose a set which is to be kept. A trial
        whose loss is not a number is.

        Args:
            losses: Of the units met.
            look: Number of the look, from 0.
            rivals: The best so far, or the points of the front.
            known: Complete losses of further trials, those first that are likest to this one: they
                foretell what it has not met.
        """
        if look >= self.schedule.looks - 1 or not rivals:
            return False
        if not all(np.isfinite(one).all() for one in losses):
            return True
        keeping = [one for one in rivals if self.lost(one) == 0]
        if not keeping:
            return False
        return bool(self.worse(losses, look, keeping, known)) or self._loses(losses, look)

    def worse(
        self,
        losses: DocumentLosses,
        look: int,
        rivals: Sequence[DocumentLosses],
        known: Sequence[DocumentLosses] = (),
    ) -> Flags:
        """Whether a trial is significantly worse than a rival, whatever it keeps.

        Args:
            losses: (..., m) of each set: those of many races can be looked at together.
            look: Number of the look, from 0; not the last one.
            rivals: (..., n) of each set, of each rival.
            known: The same of further trials.
        """
        level, found = self._level(look) / len(rivals), []
        for rival in rivals:
            rises = self._rises(losses, rival, known)
            if self.pareto:  # on every set, each by a test of the whole level (Berger 1982)
                found.append(np.all([rise.exceeds_zero(level) for rise in rises], axis=0))
            else:
                found.append(self._worse_in_aim(rises, rival, level))
        return np.asarray(np.any(found, axis=0))

    def told(
        self,
        losses: DocumentLosses,
        rivals: Sequence[DocumentLosses],
        known: Sequence[DocumentLosses] = (),
    ) -> float:
        """What a stopped trial counts: what it would with all units, as far as is known.

        That is the rival's d_s on all units plus the rise of the trial, told from the mean
        difference of the two on those that it has met: units that are harder than others change
        nothing. It is at least what the rival counts; infinite where a loss is not a number.

        Args:
            losses: Of the units met.
            rivals: As `is_worse` was given them; the one that the trial is nearest to counts.
            known: As `is_worse` was given them.
        """
        rival = self._nearest(losses, rivals, known)
        found = self.told_values(losses, [rival], known)
        value = found[0] if len(found) == 1 else float(self.combined(found))
        return max(value, self.value(rival)) if math.isfinite(value) else math.inf

    def told_values(
        self,
        losses: DocumentLosses,
        rivals: Sequence[DocumentLosses],
        known: Sequence[DocumentLosses] = (),
    ) -> tuple[float, ...]:
        """What a stopped trial counts on every set, told as by `told`.

        Args:
            losses: Of the units met.
            rivals: As `is_worse` was given them; the one that the trial is nearest to counts.
            known: As `is_worse` was given them.
        """
        rival = self._nearest(losses, rivals, known)
        rises = [float(rise.value) for rise in self._rises(losses, rival, known)]
        found = (value + rise for value, rise in zip(self.values(rival), rises, strict=True))
        return tuple(value if math.isfinite(value) else math.inf for value in found)

    # How much a trial lies above a rival

    def _rises(
        self, losses: DocumentLosses, rival: DocumentLosses, known: Sequence[DocumentLosses]
    ) -> list[Rise]:
        """Losses of every set, in units of its scale."""
        of_sets = [[one[i] for one in known] for i in range(len(losses))]
        found = zip(losses, rival, of_sets, self.schedule.sets, self._divisors, strict=True)
        return [_rise(one, other, some, order, by) for one, other, some, order, by in found]

    def _worse_in_aim(self, rises: Sequence[Rise], rival: DocumentLosses, level: float) -> Flags:
        if len(rises) == 1:
            return rises[0].exceeds_zero(level)
        if self.aim.aim != "worst":
            return Rise.pooled(rises, self.weights).exceeds_zero(level)
        found = self.differences(rival)
        worst = np.max(found, axis=0)  # what the trial has to stay below on every set
        above = [rise.moved(d - worst) for rise, d in zip(rises, found, strict=True)]
        share = level / len(rises)
        return np.asarray(np.any([one.exceeds_zero(share) for one in above], axis=0))

    def _loses(self, losses: DocumentLosses, look: int) -> bool:
        """Whether a set that is kept would be lost significantly with all units.

        It would where the rise on all of them exceeds what is significant then, for which what is
        significant on the units met stands: that is more.
        """
        found, level = zip(losses, self.schedule.sets, strict=True), self._level(look)
        return any(_loses(one, order, level) for one, order in found if order.name in self.aim.keep)

    def _level(self, look: int) -> float:
        """The level of each test at a look: of the aim, and of each set that is kept.

        A look has the part of LEVEL that it has of the units met at looks before the last: at early
        ones the distribution is known the least, and trials that are worse by much lose anyway.
        """
        met = self.schedule.met
        spent = (met[look] - (met[look - 1] if look else 0)) / met[-2]
        return float(LEVEL * spent / (1 + len(self.aim.keep)))

    @property
    def _divisors(self) -> Sequence[float]:
        """What differences are divided by; one set counts by its loss."""
        return self.scales if len(self.schedule.sets) > 1 else (1.0,)

    def _nearest(
        self,
        losses: DocumentLosses,
        rivals: Sequence[DocumentLosses],
        known: Sequence[DocumentLosses],
    ) -> DocumentLosses:
        """The rival that a trial is worse than by the most on the set where it is nearest to it."""
        if len(rivals) == 1:
            return rivals[0]
        rises = [self._rises(losses, one, known) for one in rivals]
        least = [min(float(rise.value) for rise in found) for found in rises]
        return rivals[int(np.argmax(least))]


def _rise(
    losses: Floats, rival: Floats, known: Sequence[Floats], order: SetOrder, scale: float
) -> Rise:
    """How much a trial lies above a rival.

    Differences are as large as losses are, and as what sets models apart: where the units that were
    not met are harder for the rival than those that were, or set it further apart from the best
    model, the error is larger than the units met show, by the larger of the two factors.
    """
    met, weights = losses.shape[-1], order.weights
    some = known[: met // UNITS_EACH] if met >= 2 * FEWEST else ()
    others = np.stack([(one - rival) / scale for one in some], axis=-2) if len(some) else None
    found = Rise.of((losses - rival[..., :met]) / scale, weights, others)
    apart = np.hypot(rival - order.best, _NOISE * rival)
    by = [scale_of_unmet(weights * size, met) for size in (rival, apart)]
    return found.widened(np.maximum(*by))


def _loses(losses: Floats, order: SetOrder, level: float) -> bool:
    rise = _rise(losses, order.best, (), order, 1.0)
    low = mean_of_units(losses - order.best[: len(losses)], order).estimate.low
    return low is not None and bool(rise.moved(low - rise.value).exceeds_zero(level))
