"""What the merge that a search found is worth on documents that it was not chosen on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergekit_geo.config.aim import WORST
from mergekit_geo.evaluation.across import estimate_of, mean_of, sum_of
from mergekit_geo.evaluation.statistics import DocumentMean, paired_difference
from mergekit_geo.records.findings import limit_of
from mergekit_geo.records.losses import Estimate
from mergekit_geo.records.search import ReferenceEntry, ReferenceSetEntry
from mergekit_geo.tasks.losses import Indices, Losses

if TYPE_CHECKING:
    from mergekit_geo.evaluation.aim import Aim
    from mergekit_geo.evaluation.point import Point


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
            return sum_of([here[_largest(here)], there[_largest(there)]], [1.0, -1.0])
        weights = self.aim.weights
        return sum_of([*here, *there], [*weights, *(-weight for weight in weights)])

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
        scaled = [pair.times(1 / scale) for pair, scale in zip(pairs, self._scales, strict=True)]
        if self.aim.config.aim != WORST:
            return mean_of(scaled, self.aim.weights)
        ours, theirs = (self._beside_best(point, reports=True) for point in (output, other))
        here, there = (_largest(found) for found in (ours, theirs))
        if here == there:
            return scaled[here].estimate
        return sum_of([ours[here], theirs[there]], [1.0, -1.0])  # of unlike documents

    def _combined(self, found: Sequence[DocumentMean]) -> Estimate:
        return estimate_of(self.aim.config, found, self.aim.weights)

    def _beside_best(self, point: Point, *, reports: bool) -> list[DocumentMean]:
        """Loss of a point minus that of the best model, on a half of every set."""
        rows = [self._rows(i, reports=reports) for i in range(len(self.aim.names))]
        found = zip(self.aim.evaluator.every, self._losses(point), rows, self._scales, strict=True)
        return [
            paired_difference(losses.take(each), one.best.take(each)).times(1 / scale)
            for one, losses, each, scale in found
        ]

    def _losses(self, point: Point) -> list[Losses]:
        return self.aim.evaluator.at_all(point)

    def _report_losses(self, point: Point) -> list[Losses]:
        found = self._losses(point)
        return [losses.take(self._rows(i, reports=True)) for i, losses in enumerate(found)]

    def _rows(self, index: int, *, reports: bool) -> Indices:
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


def _largest(found: Sequence[DocumentMean]) -> int:
    return max(range(len(found)), key=lambda i: found[i].value)
