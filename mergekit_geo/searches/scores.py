"""What trials of a search count, by their losses on the units of every set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mergekit_geo.config.aim import AimConfig
from mergekit_geo.evaluation.across import estimate_of
from mergekit_geo.evaluation.statistics import DocumentMean, document_mean
from mergekit_geo.records.losses import Estimate
from mergekit_geo.searches.schedule import Schedule, SetOrder
from mergekit_geo.searches.trial import DocumentLosses
from mergekit_geo.tasks.losses import Floats


@dataclass(frozen=True, eq=False)
class Scores:
    """Counts trials by their losses on the units of every set, in the order of a schedule.

    Losses may be those of the first units only.

    Attributes:
        schedule: The order of the units, and the looks.
        aim: What is minimised, and what is kept.
        weights: Share of every set in a mean.
        scales: What the losses of every set are divided by.
    """

    schedule: Schedule
    aim: AimConfig = AimConfig()
    weights: Sequence[float] = (1.0,)
    scales: Sequence[float] = (1.0,)

    def value(self, losses: DocumentLosses) -> float:
        """What a trial counts: as `Aim.of`; the d_s are those on the units met."""
        if len(losses) == 1:
            return self._means(losses)[0].value
        return float(self.combined([one.value for one in self._beside_best(losses)]))

    def values(self, losses: DocumentLosses) -> tuple[float, ...]:
        """One number a set, each an aim under `pareto`: d_s, or the loss where there is one set."""
        found = self._means(losses) if len(losses) == 1 else self._beside_best(losses)
        return tuple(one.value for one in found)

    def interval(self, losses: DocumentLosses) -> Estimate:
        """What a trial counts, with its 95 % interval over documents."""
        if len(losses) == 1:
            return self._means(losses)[0].estimate
        return estimate_of(self.aim, self._beside_best(losses), self.weights)

    def lost(self, losses: DocumentLosses) -> float:
        """The largest significant rise of the loss on sets that are to be kept; 0 without any."""
        if not self.aim.keep:
            return 0.0
        found = zip(self.schedule.sets, self._beside_best(losses), self.scales, strict=True)
        rises = [
            one.value * scale
            for order, one, scale in found
            if order.name in self.aim.keep and (one.estimate.low or 0) > 0
        ]
        return max(rises, default=0.0)

    def differences(self, losses: DocumentLosses) -> list[Floats]:
        """d_s of every set on all units, (...,) each.

        Args:
            losses: (..., n) of each set.
        """
        found = zip(losses, self.schedule.sets, self.scales, strict=True)
        return [
            ((order.weights * (one - order.best)).sum(-1) / order.weights.sum(-1)) / scale
            for one, order, scale in found
        ]

    def combined(self, differences: Sequence[float]) -> float:
        """One number of the d_s of every set."""
        return self.aim.number_of(differences, self.weights)

    def _means(self, losses: DocumentLosses) -> list[DocumentMean]:
        pairs = zip(losses, self.schedule.sets, strict=True)
        return [mean_of_units(one, order) for one, order in pairs]

    def _beside_best(self, losses: DocumentLosses) -> list[DocumentMean]:
        """d_s of every set, on the units met."""
        return [
            mean_of_units(one - order.best[: len(one)], order).times(1 / scale)
            for one, order, scale in zip(losses, self.schedule.sets, self.scales, strict=True)
        ]


def mean_of_units(values: Floats, order: SetOrder) -> DocumentMean:
    """Mean over units, with its error over documents as everywhere in reports."""
    met = len(values)
    return document_mean(values, order.weights[:met], order.document[:met])
