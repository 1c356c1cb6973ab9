"""Fishers of the models of a merge, as the statistics that its rule weighs them by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergekit_geo.curvature.model_fisher import FisherRun
from mergekit_geo.evaluation.study import Study
from mergekit_geo.merging.weighed import FisherSettings
from mergekit_geo.records.statistics import StatisticEntry
from mergekit_geo.selection.statistics import FoundStatistic

if TYPE_CHECKING:
    from mergekit_geo.config.sets import DataSource


@dataclass(frozen=True)
class FisherStatistic:
    """The diagonal Fisher of a model.

    Attributes:
        settings: What it is an estimate from.
    """

    settings: FisherSettings

    def of(self, study: Study, position: int, source: DataSource) -> FoundStatistic:
        """Compute it, or find what an earlier run has computed."""
        warnings: list[str] = []
        run = FisherRun(self.settings, study.compute, study.clock, study.progress, warnings.append)
        model = study.anchors[position]
        found = run.of(model, source)
        data = source.as_settings
        entry = StatisticEntry(
            model=model.name,
            kind="Fisher",
            source="a function" if data is None else data.origin,
            shared=False,
            digest=found.digest,
            documents=found.documents,
            examples=found.examples,
            available=found.available,
            labels=self.settings.labels,
            settings={"examples": self.settings.examples, "seed": source.seed},
            reused=found.reused,
            seconds=found.seconds,
        )
        return FoundStatistic(entry, found.tensors, found.key, tuple(warnings))
