"""What the merge that a search found is worth on documents that it was not chosen on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mergekit_geo.evaluation.across import mean_of
from mergekit_geo.evaluation.statistics import DocumentMean, paired_difference, students
from mergekit_geo.records.findings import limit_of
from mergekit_geo.records.losses import Estimate
from mergekit_geo.records.search import ReferenceEntry, ReferenceSetEntry
from mergekit_geo.tasks.losses import Losses

if TYPE_CHECKING:
    from mergekit_geo.evaluation.aim import Aim
    from mergekit_geo.evaluation.point import Point

WORST = "worst"


@dataclass(frozen=True)
class Reference:
    """What the output is held against.

    Attributes:
        title: Such as `default recipe`.
        point: Where it lies.
        model: Its name, where it is a model by itself.
    """

    title: str
    point: Point
    model: str = ""


@dataclass(frozen=True)
class Halves:
    """Losses at points, on the half that chose and on the one that reports.

    Attributes:
        aim: How sets become one number, and where losses are measured.
    """

    aim: Aim

    def selection(self, point: Point) -> Estimate:
        """What a point counts on the selection half."""
        return self._combined(self._beside_best(point, reports=False))

    def report(self, point: Point) -> Estimate:
        """What it counts on the report half."""
        return self._combined(self._beside_best(point, reports=True))

    def optimism(self, point: Point) -> Estimate:
        """What a point counts on the report half minus what it counts on the selection half."""
        here, there = (self._beside_best(point, reports=reports) for reports in (True, False))
        if self.aim.config.aim == WORST:
            here, there = ([max(found, key=_value)] for found in (here, there))
        weights = self.aim.weights if len(here) > 1 else [1.0]
        shares = [weight / sum(weights) for weight in weights]
        parts = [_times(one, share) for one, share in zip(here, shares, strict=True)]
        parts += [_times(one, -share) for one, share in zip(there, shares, strict=True)]
        return _sum(parts)

    def entry(self, output: Point, other: Reference) -> ReferenceEntry:
        """The output beside something else, on the report half."""
        ours, theirs = self._report_losses(output), self._report_losses(other.point)
        pairs = [paired_difference(a, b) for a, b in zip(ours, theirs, strict=True)]
        sets = {
            name: ReferenceSetEntry(loss=losses.mean, difference=pair.estimate)
            for name, losses, pair in zip(self.aim.names, theirs, pairs, strict=True)
        }
        return ReferenceEntry(
            title=other.title, model=other.model,
            difference=self._difference(output, other.point, pairs), limit=self._limit, sets=sets,
        )  # fmt: skip

    def by_set(self, point: Point) -> dict[str, Estimate]:
        """Loss minus that of the best model, on the report half of each set."""
        found = self._beside_best(point, reports=True)
        return {name: one.estimate for name, one in zip(self.aim.names, found, strict=True)}

    def _difference(self, output: Point, other: Point, pairs: Sequence[DocumentMean]) -> Estimate:
        scaled = [_times(pair, 1 / scale) for pair, scale in zip(pairs, self._scales, strict=True)]
        if self.aim.config.aim != WORST:
            return mean_of(scaled, self.aim.weights)
        ours, theirs = (self._beside_best(point, reports=True) for point in (output, other))
        here, there = (_largest(found) for found in (ours, theirs))
        if here == there:
            return scaled[here].estimate
        return _sum([ours[here], _times(theirs[there], -1.0)])  # of unlike documents

    def _combined(self, found: Sequence[DocumentMean]) -> Estimate:
        if self.aim.config.aim == WORST:
            return max(found, key=_value).estimate
        return mean_of(found, self.aim.weights)

    def _beside_best(self, point: Point, *, reports: bool) -> list[DocumentMean]:
        """Loss of a point minus that of the best model, on a half of every set."""
        rows = [self._rows(i, reports=reports) for i in range(len(self.aim.names))]
        found = zip(self.aim.evaluator.every, self._losses(point), rows, self._scales, strict=True)
        return [
            _times(paired_difference(losses.take(each), one.best.take(each)), 1 / scale)
            for one, losses, each, scale in found
        ]

    def _losses(self, point: Point) -> list[Losses]:
        return self.aim.evaluator.at_all(point)

    def _report_losses(self, point: Point) -> list[Losses]:
        found = self._losses(point)
        return [losses.take(self._rows(i, reports=True)) for i, losses in enumerate(found)]

    def _rows(self, index: int, *, reports: bool):  # type: ignore[no-untyped-def]
        split = self.aim.evaluator.every[index].split
        return split.report if reports else split.selection

    @property
    def _scales(self) -> Sequence[float]:
        return [1.0] if self.aim.is_loss else self.aim.scales

    @property
    def _limit(self) -> float:
        """Size of a difference that matters: the mean of that on every set."""
        every = self.aim.evaluator.every
        limits = [
            limit_of(one.best.take(one.split.report).mean) / scale
            for one, scale in zip(every, self._scales, strict=True)
        ]
        return sum(w * limit for w, limit in zip(self.aim.weights, limits, strict=True))


def _value(one: DocumentMean) -> float:
    return one.value


def _largest(found: Sequence[DocumentMean]) -> int:
    return max(range(len(found)), key=lambda i: found[i].value)


def _times(one: DocumentMean, factor: float) -> DocumentMean:
    error = None if one.error is None else one.error * abs(factor)
    return replace(one, value=one.value * factor, error=error)


def _sum(parts: Sequence[DocumentMean]) -> Estimate:
    """A sum of means over documents that they do not share, with Student's interval.

    Degrees of freedom are pooled as in `mean_of`.
    """
    value = sum(one.value for one in parts)
    variances = [one.error**2 for one in parts if one.error is not None]
    if len(variances) < len(parts):
        return Estimate(value=value, low=None, high=None)
    total = sum(variances)
    if total == 0:
        return Estimate(value=value, low=value, high=value, detectable=0.0)
    pairs = zip(variances, parts, strict=True)
    freedom = total**2 / sum(variance**2 / one.freedom for variance, one in pairs)
    return students(value, math.sqrt(total), freedom)
