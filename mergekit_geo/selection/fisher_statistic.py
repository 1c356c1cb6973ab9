"""Fishers of the models of a merge, as the statistics that its rule weighs them by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergekit_geo.curvature.model_fisher import FisherRun
from mergekit_geo.evaluation.study import Study
from mergekit_geo.merging.weighed import FisherSettings
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
        found = run.of(study.anchors[position], source)
        return FoundStatistic(found.entry, found.tensors, found.key, tuple(warnings))
