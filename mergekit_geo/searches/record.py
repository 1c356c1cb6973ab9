"""What a report says of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergekit_geo.records.losses import Estimate
from mergekit_geo.records.search import DimensionEntry, SearchEntry, TrialEntry
from mergekit_geo.searches.samplers import chosen
from mergekit_geo.searches.storage_place import public

if TYPE_CHECKING:
    from mergekit_geo.evaluation.point import Point
    from mergekit_geo.searches.dimension import Dimension
    from mergekit_geo.searches.racing import Race
    from mergekit_geo.searches.references import Halves, Reference
    from mergekit_geo.searches.space import Space
    from mergekit_geo.searches.study import SearchStudy
    from mergekit_geo.searches.trials import Finished
    from mergekit_geo.specs.search import SearchSpec

DEFAULT = "default recipe"


@dataclass(frozen=True)
class Ended:
    """A search that has ended.

    Attributes:
        asked: The call.
        study: All trials.
        space: What was searched.
        race: How trials were compared.
        halves: Measures on both halves.
        interrupted: Whether it was asked to end early.
    """

    asked: SearchSpec
    study: SearchStudy
    space: Space
    race: Race
    halves: Halves
    interrupted: bool = False

    def entry(
        self,
        taken: Finished | None = None,
        point: Point | None = None,
        references: Sequence[Reference] = (),
        front: Sequence[tuple[int, Point]] = (),
    ) -> SearchEntry:
        """The record.

        Args:
            taken: The trial that the output is; None where none is written.
            point: The same as a point.
            references: What it is held against.
            front: Numbers and points of the front, which are measured on the report half.
        """
        found, aim, best = self.study.finished(), self.halves.aim, self.study.best
        beside = [] if point is None else [self.halves.entry(point, one) for one in references]
        default = next((one.difference for one in beside if one.title == DEFAULT), None)
        of_front = {number: self.halves.by_set(point) for number, point in front}
        pareto, shared = self.race.pareto, self.asked.storage is not None
        return SearchEntry(
            sampler=chosen(self.asked.sampler, self.space, self.study.aims),
            engine=self.asked.engine,
            study=self.study.name,
            storage=public(self.study.where),
            aim="" if pareto else aim.text,
            aims=aim.names if pareto else [],
            kept=list(aim.config.keep),
            racing=self.race.schedule.looks > 1,
            asked=None if shared else self.asked.trials,
            dimensions=[
                _dimension(one) for one in self.space.dimensions
            ],
            trials=[self._trial(one, of_front.get(one.number, {})) for one in found],
            best=None if pareto or best is None else best.number,
            front=[one.number for one in self.study.front] if pareto else [],
            taken=None if taken is None else taken.number,
            evaluations=sum(one.share for one in found),
            saved=sum(1 - one.share for one in found if one.stopped),
            importance=self.study.importances(),
            documents=aim.documents,
            selection=None if point is None else self.halves.selection(point),
            report=None if point is None else self.halves.report(point),
            optimism=None if point is None else self.halves.optimism(point),
            references=beside,
            better_than_default=None if default is None else _is_better(default.high),
            interrupted=self.interrupted,
        )  # fmt: skip

    def _trial(self, one: Finished, report: dict[str, Estimate]) -> TrialEntry:
        names, several = self.halves.aim.names, not self.halves.aim.is_loss
        by_set = self.race.values(one.losses) if several and one.losses is not None else ()
        low, high = one.interval or (None, None)
        return TrialEntry(
            number=one.number,
            values=dict(one.values),
            value=one.told[0] if len(one.told) == 1 else None,
            low=low,
            high=high,
            by_set=dict(zip(names, by_set, strict=False)),
            stopped=one.stopped,
            share=one.share,
            lost=one.lost,
            title=one.title,
            seconds=one.seconds,
            error=one.error,
            report=report,
        )


def _is_better(high: float | None) -> bool:
    return high is not None and high < 0


def _dimension(one: Dimension) -> DimensionEntry:
    when = "; ".join(f"{name}: {', '.join(labels)}" for name, labels in one.when.items())
    if one.is_choice:
        return DimensionEntry(name=one.name, labels=list(one.labels), when=when)
    return DimensionEntry(name=one.name, low=one.low, high=one.high, log=one.log, when=when)
