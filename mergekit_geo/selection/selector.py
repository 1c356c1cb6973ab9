"""The point that a merge takes: asked for outright, or found by loss on the selection half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mergekit_geo.config.aim import AimConfig
from mergekit_geo.config.data import BUILTIN, Data, source_of
from mergekit_geo.config.selection import SelectionConfig
from mergekit_geo.config.training import CurveFitConfig
from mergekit_geo.connectivity.paths import ModelPath
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.split import Split
from mergekit_geo.evaluation.study import Study
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.records.merge import SelectionEntry
from mergekit_geo.records.statistics import StatisticEntry
from mergekit_geo.selection.segment import Segment, SelectedPoint, point_without_losses

if TYPE_CHECKING:
    from mergekit_geo.evaluation.points import PointEvaluator
    from mergekit_geo.records.entropy import EntropyEntry


@dataclass(frozen=True)
class Selected:
    """The point that a merge takes, and how it was found.

    Attributes:
        point: Over all models.
        entry: For the report, where it was found by loss.
        split: What it was found on, and what remains to report on.
        segments: Of the paths that were taken, and the point of each.
        soup: Positions of the models of the uniform soup beside it; all if empty.
        statistics: What was computed of the models on data of theirs, where the rule is by it.
        warnings: What the user should know of that.
        entropy: How coefficients were found by the entropy of predictions, where they were.
    """

    point: Point
    entry: SelectionEntry | None = None
    split: Split | None = None
    segments: tuple[SelectedPoint, ...] = ()
    soup: tuple[int, ...] = ()
    statistics: tuple[StatisticEntry, ...] = ()
    warnings: tuple[str, ...] = ()
    entropy: EntropyEntry | None = None


@dataclass(frozen=True)
class Selector:
    """The point that a merge takes, or how loss finds it.

    Attributes:
        rule: Of the merge, where loss does not find another one.
        rules: By tensor, where one has a rule of its own.
        takers: By tensor, positions of the models that it is made of, where these are not all.
        config: How it is found.
        path: Between two models, where a point of one is taken.
        t: The point of it that is asked for, where one is.
        fitting: How paths are fitted when they are needed.
        fit_seed: Of the fits; that of the data if None.
        chosen: What was chosen by loss before, on the selection half: then the other half reports.
        aim: What is minimised over several sets.
    """

    rule: Rule
    rules: Mapping[str, Rule] = field(default_factory=dict)
    takers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    config: SelectionConfig = SelectionConfig()
    path: ModelPath | None = None
    t: float | None = None
    fitting: CurveFitConfig = CurveFitConfig()
    fit_seed: int | None = None
    chosen: SelectionEntry | None = None
    aim: AimConfig = AimConfig()

    def segments(self, count: int) -> int:
        """Number of paths that are taken among so many models, at most."""
        return 0 if self.config.along is None else count - 1

    def select(
        self, study: Study, dtype: str | None = None, *, further: int = 0
    ) -> tuple[Selected, PointEvaluator | None]:
        """The point, and where it was measured, if it was.

        Args:
            study: The models, and what loss is measured on.
            dtype: Of the output, as safetensors names it; the first model's own if None. Soups are
                measured as they would be written.
            further: Number of measurements to come, for the estimate of the cost.

        Raises:
            DataError: Too few documents for two halves.
        """
        if self.chosen is not None and study.plan.objective is not None:
            from mergekit_geo.selection.search import on_report_half  # torch, to measure

            return on_report_half(self._asked_for(study_names(study)), study, further)
        if not self.config.by_loss(len(study.anchors)):
            return self._asked_for(study_names(study)), None
        from mergekit_geo.selection.search import select_by_loss  # torch, where loss decides

        return select_by_loss(self, study, dtype, further)

    def _asked_for(self, names: Sequence[str]) -> Selected:
        """The point of a merge that no loss is looked at for."""
        if self.path is None:
            point = Point(self.rule, self.rule.name, "", rules=self.rules, takers=self.takers)
            return Selected(point, self.chosen)
        segment = Segment.between(self.path, names)
        if self.t is None:
            found = point_without_losses(self.config, segment)
        else:
            found = SelectedPoint(segment, segment.at(self.t), self.t)
        return Selected(found.point, segments=(found,))


def study_names(study: Study) -> list[str]:
    """Names of the models."""
    return [anchor.name for anchor in study.anchors]


def check_selection(config: SelectionConfig, count: int, data: Data) -> None:
    """Refuse to select by loss on the built-in text, unless it was named.

    Args:
        config: How the point is found.
        count: Of the models.
        data: As asked for.

    Raises:
        ArgumentError: It would be found on the built-in text, or needs another number of models.
    """
    config.check_count(count)
    if config.by_loss(count) and source_of(data).is_default:
        raise ArgumentError(
            "a model chosen by loss would be tuned to the built-in text",
            remedy=f"give held-out data with --data, or name the built-in text: --data {BUILTIN}",
        )
