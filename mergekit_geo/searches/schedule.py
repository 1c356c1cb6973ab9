"""The order in which trials meet the examples of the selection half, and when they are looked at.

The order is random, fixed by a seed, and the same for all trials. So what a trial has met at a look
is a random sample of the examples whose mean it is after, and rivals have met the same. Examples
are drawn one by one, and not by documents: that those of one document are alike matters to what is
said of other documents, and not to the mean of the half itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mergekit_geo.errors import DataError
from mergekit_geo.tasks.losses import Floats, Indices, Losses

if TYPE_CHECKING:
    from mergekit_geo.evaluation.points import PointEvaluator

FEWEST = 12
"""Units of a set before the first look: the error of fewer is hardly known."""
FIRST, LAST = 0.02, 0.7
"""Share of the units before the first look, at least, and before the last but one, at most."""


@dataclass(frozen=True, eq=False)
class SetOrder:
    """Units of one set in the order in which trials meet them (n units, k looks).

    A unit is an example, such as a window of a text, or all examples of a document where these are
    measured against one another.

    Attributes:
        name: Of the set.
        weights: (n,) what each unit counts.
        best: (n,) its loss under the model that is best on the selection half.
        document: (n,) index of the document it is from.
        ends: (k,) units met at each look; n at the last.
        blocks: Examples that are measured before each look, unit by unit.
        unit: Of each of these, of all blocks one after the other, the unit that it is of.
        counts: What each of them counts in its unit.
        work: (k,) tokens (or examples) of each block.
    """

    name: str
    weights: Floats
    best: Floats
    document: Indices
    ends: Indices
    blocks: tuple[Indices, ...]
    unit: Indices
    counts: Floats
    work: Floats

    @classmethod
    def of(cls, evaluator: PointEvaluator, shares: Sequence[float], seed: int) -> SetOrder:
        """The order of one set.

        Args:
            evaluator: Of the set.
            shares: Of its units, met at each look; 1 at the last.
            seed: Another seed is another order.
        """
        best, rows = evaluator.best, _counted(evaluator)
        _, unit = np.unique(_units(evaluator)[rows], return_inverse=True)
        order = np.random.default_rng(seed).permutation(int(unit.max()) + 1)
        place = np.argsort(order)[unit]
        first = np.argsort(place, kind="stable")
        rows, place = rows[first], place[first]
        ends = np.array([round(share * len(order)) for share in shares])
        blocks = np.split(rows, np.searchsorted(place, ends[:-1]))
        weights = np.bincount(place, best.weight[rows]).astype(np.float64)
        return cls(
            name=evaluator.study.name,
            weights=weights,
            best=np.bincount(place, best.weight[rows] * best.loss[rows]) / weights,
            document=best.document[rows[np.searchsorted(place, np.arange(len(order)))]],
            ends=ends,
            blocks=tuple(blocks),
            unit=place,
            counts=best.weight[rows],
            work=np.array([_work(evaluator, block) for block in blocks]),
        )

    def losses(self, found: Losses, look: int | None) -> Floats:
        """Loss of every unit, in this order.

        Args:
            found: Of the examples of a block, in its order, or of all of the set.
            look: Number of the block's look; None with losses of all examples.
        """
        if look is None:
            loss, some = found.loss[np.concatenate(self.blocks)], slice(None)
        else:
            start = sum(len(block) for block in self.blocks[:look])
            loss, some = found.loss, slice(start, start + len(self.blocks[look]))
        unit, counts = self.unit[some], self.counts[some]
        place = unit - unit[0]
        return np.asarray(np.bincount(place, counts * loss) / np.bincount(place, counts))


@dataclass(frozen=True, eq=False)
class Schedule:
    """What is measured of a trial before each look, on every set.

    Attributes:
        sets: The order of each set; all have as many looks.

    Example:
        >>> schedule = Schedule.of(evaluator)                                      # doctest: +SKIP
        >>> losses = evaluator.module_evaluator.on(schedule.rows(0, 0), module)    # doctest: +SKIP
        >>> met = schedule.losses(losses, 0, look=0)                               # doctest: +SKIP
    """

    sets: tuple[SetOrder, ...]

    @classmethod
    def of(cls, evaluator: PointEvaluator, seed: int = 0, *, racing: bool = True) -> Schedule:
        """The order of every set of an evaluator.

        Args:
            evaluator: That of the first set.
            seed: Another seed is another order.
            racing: Whether trials are looked at before they have met all examples.

        Raises:
            DataError: Too few documents for racing, or a loss that is not measured by parts.
        """
        met = [1.0]
        if racing:
            for one in evaluator.every:
                _require_parts(one)
            met = looks_of({one.study.name: _count(one) for one in evaluator.every})
        return cls(tuple(SetOrder.of(one, met, seed) for one in evaluator.every))

    @property
    def looks(self) -> int:
        """How often a trial is looked at, the last time with all examples."""
        return len(self.sets[0].ends)

    @property
    def met(self) -> Floats:
        """(k,) share of the units that a trial has met at each look."""
        largest = max(self.sets, key=lambda one: int(one.ends[-1]))
        return np.asarray(largest.ends / largest.ends[-1])

    @property
    def cost(self) -> Floats:
        """(k,) share of a full evaluation that is measured before each look; they sum to one."""
        work = np.sum([one.work for one in self.sets], axis=0)
        return np.asarray(work / work.sum())

    def rows(self, look: int, index: int) -> Indices:
        """Examples of a set that are measured between the look before and this one."""
        return self.sets[index].blocks[look]

    def losses(self, found: Losses, index: int, look: int | None) -> Floats:
        """Losses of a set's units, in its order.

        Args:
            found: Of the examples that `rows` named for a look, or of all of the set.
            index: Number of the set.
            look: Number of the look; None with losses of all examples.
        """
        return self.sets[index].losses(found, look)


def looks_of(units: Mapping[str, int]) -> list[float]:
    """Shares of the units that a trial has met at each look; 1 at the last.

    Each look comes when twice as many were met as at the look before, of all sets alike. The first
    is as early as the smallest set allows.

    Args:
        units: Of each set, by its name.

    Raises:
        DataError: Too few units.

    Example:
        >>> looks_of({"prose": 400, "code": 96})
        [0.125, 0.25, 0.5, 1.0]
    """
    name, count = min(units.items(), key=lambda item: item[1])
    if count < 2 * FEWEST:
        raise DataError(
            f"racing needs at least {2 * FEWEST} examples to choose on, and {name} has {count}",
            remedy=f"give more documents ({5 * FEWEST} or more nearly always do: half of them "
            "choose, half report), or measure every trial on all with --no-racing",
        )
    met = [max(FIRST, FEWEST / count)]
    while 2 * met[-1] <= LAST:
        met.append(2 * met[-1])
    return [*met, 1.0]


def _require_parts(evaluator: PointEvaluator) -> None:
    if evaluator.module_evaluator.count == 0:
        raise DataError(
            "a loss function is measured on all its batches, and racing needs parts",
            where=evaluator.study.name,
            remedy="measure every trial on all with --no-racing",
        )


def _counted(evaluator: PointEvaluator) -> Indices:
    """Examples of the selection half that count."""
    rows = evaluator.split.selection
    return rows[evaluator.best.weight[rows] > 0]


def _units(evaluator: PointEvaluator) -> Indices:
    """Which examples are measured together: those of the same number."""
    if getattr(evaluator.objective, "whole", False):
        return evaluator.best.document
    return np.arange(len(evaluator.best.loss))


def _count(evaluator: PointEvaluator) -> int:
    return len(np.unique(_units(evaluator)[_counted(evaluator)]))


def _work(evaluator: PointEvaluator, rows: Indices) -> float:
    """Tokens (or examples) of some examples."""
    from mergekit_geo.evaluation.objective import TaskObjective  # torch, which is there now

    objective = evaluator.objective
    if not isinstance(objective, TaskObjective):
        return float(len(rows))
    return float(sum(objective.kept[row].size for row in rows))
