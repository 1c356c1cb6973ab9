"""A search with its models in one live module: the study is opened, trials made, the best taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.content import model_key
from mergekit_geo.config.selection import measurements
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.evaluation.aim import Aim
from mergekit_geo.evaluation.losses import data_entry, loss_entry, run_with
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.records.losses import DataEntry, SetEntry
from mergekit_geo.records.merge import SelectionEntry
from mergekit_geo.records.search import SearchEntry, SearchMeasurements
from mergekit_geo.searches.engine import Engine, Here
from mergekit_geo.searches.learned_start import learned_start
from mergekit_geo.searches.loop import Limits, Search, said
from mergekit_geo.searches.racing import Race
from mergekit_geo.searches.record import DEFAULT, Ended
from mergekit_geo.searches.references import Halves, Reference
from mergekit_geo.searches.study import SearchStudy
from mergekit_geo.searches.subject import study_name
from mergekit_geo.searches.warm_starts import warm_starts
from mergekit_geo.searches.worker import Measurer, open_measurer, race_of
from mergekit_geo.selection.selector import Selected

if TYPE_CHECKING:
    from mergekit_geo.evaluation.study import Study
    from mergekit_geo.interrupt import Interruption
    from mergekit_geo.searches.candidates import Candidates
    from mergekit_geo.searches.trials import Finished
    from mergekit_geo.specs.search import SearchSpec

BEST_PARENT = "best parent"
UNIFORM = "uniform soup"


@dataclass(frozen=True)
class Searched:
    """A search that has ended.

    Attributes:
        entry: For the report.
        evaluator: Where points were measured.
        taken: The trial that is written; None where none is.
        point: The same, in weight space.
        soup: Positions of the models of the uniform soup.
    """

    entry: SearchEntry
    evaluator: PointEvaluator
    taken: Finished | None
    point: Point | None
    soup: tuple[int, ...]

    @property
    def selected(self) -> Selected:
        """The point that the merge takes."""
        assert self.taken is not None
        assert self.point is not None
        entry = SelectionEntry(
            method="search",
            chosen=f"trial {self.taken.number}: {said(self.taken.values)}",
            documents=self.entry.documents,
            steps=_improvements(self.entry),
            aim=self.entry.aim,
        )
        return Selected(self.point, entry, self.evaluator.split, soup=self.soup)

    @property
    def place(self) -> tuple[str, str, str]:
        """What the module ran with."""
        return run_with(self.evaluator.live.model)

    @property
    def data(self) -> DataEntry:
        """What loss was measured on: the first set."""
        return self._set(self.evaluator).data

    def measurements(self) -> SearchMeasurements:
        """What is reported where no merge is written."""
        sets = {one.study.name: self._set(one) for one in self.evaluator.every}
        first = next(iter(sets.values()))
        more = sets if len(sets) > 1 else {}
        return SearchMeasurements(search=self.entry, losses=first.losses, sets=more)

    def _set(self, one: PointEvaluator) -> SetEntry:
        rows, names = one.split.report, one.names
        uniform = one.at(Point.mean(self.soup, names, UNIFORM))
        sample = one.study.sample
        parents = [one.at_model(i).take(rows) for i in range(len(names))]
        losses = [
            *(loss_entry(n, "parent", own, sample) for n, own in zip(names, parents, strict=True)),
            loss_entry(UNIFORM, "reference", uniform.take(rows), sample),
        ]
        data = data_entry(one.study, one.at_model(0).take(rows))
        return SetEntry(data=data, weight=one.study.weight, losses=losses)


@dataclass(frozen=True)
class Searching:
    """A search on models that are open.

    Attributes:
        asked: The call.
        candidates: What is searched.
        study: The models, and what loss is measured on.
    """

    asked: SearchSpec
    candidates: Candidates
    study: Study

    def run(self, told: Interruption) -> Searched:
        """Make trials, and take the best.

        Args:
            told: Whether the search was asked to end early.

        Raises:
            ArgumentError: A trial to take that there is not.
            DataError: No trial keeps the sets that are to be kept, or none could be measured.
            KeyboardInterrupt: It was asked to end before a trial was measured.
        """
        if self.asked.take is None:
            self._make_trials(told)
        taken = self._taken()
        ended = Ended(
            self.asked, self.kept, self.candidates.space, self.race, Halves(self.aim),
            interrupted=told.set,
        )  # fmt: skip
        soup = self.candidates.members
        if taken is None:
            return Searched(ended.entry(front=self._front()), self.evaluator, None, None, soup)
        point = self._point(taken)
        entry = ended.entry(taken, point, self._references())
        return Searched(entry, self.evaluator, taken, point, soup)

    @cached_property
    def kept(self) -> SearchStudy:
        """The study in its storage."""
        asked = self.asked
        return SearchStudy.open(
            self._storage,
            study_name(asked),
            self._identity(),
            aims=len(self.study.sets) if asked.aiming.is_pareto else 1,
            sampler=asked.sampler,
            seed=self.study.seed,
            constrained=bool(asked.aiming.keep),
            shared=asked.storage is not None,
        )

    @cached_property
    def evaluator(self) -> PointEvaluator:
        """Measures points, on as many examples as all others who share the study."""
        found = self._opened(tuple(self.kept.counts.values()))
        own = {one.study.name: one.module_evaluator.count for one in found.every}
        settled = self.kept.settled(own)
        return found if settled == own else self._opened(tuple(settled.values()))

    @cached_property
    def aim(self) -> Aim:
        """What is minimised."""
        return Aim(self.evaluator, self.asked.aiming.combined)

    @cached_property
    def race(self) -> Race:
        """How trials are compared, and when they are stopped."""
        return race_of(self.asked, self.evaluator)

    @property
    def _storage(self) -> str | Path | None:
        if self.asked.storage is not None:
            return self.asked.storage
        return None if self.asked.out is None else Path(f"{self.asked.out}.study.log")

    def _opened(self, counts: Sequence[int]) -> PointEvaluator:
        trials = self.asked.evaluations or self.asked.trials
        count = int(trials) + measurements(len(self.study.anchors), 0)
        return PointEvaluator.open(self.study, count, refresh_models=False, counts=counts)

    def _identity(self) -> dict[str, Any]:
        """All that losses of trials depend on, so that a study has trials of one search alone."""
        asked = self.asked
        return {
            "recipe": self.candidates.space.description,
            "models": [model_key(anchor) for anchor in self.study.anchors],
            "data": {one.name: _data_key(one) for one in self.study.sets},
            "aim": [asked.aiming.aim, *asked.aiming.keep],
            "seed": self.study.seed,
            "dtype": self.candidates.dtype or "",
        }

    def _make_trials(self, told: Interruption) -> None:
        asked, study = self.asked, self.kept
        if not study.finished():
            learned = learned_start(self.candidates, self.aim) if asked.learned else []
            study.enqueue([*warm_starts(self.candidates.space), *learned])
        limits = Limits(asked.trials, asked.evaluations, of_process=asked.storage is not None)
        engine = self._engine()
        try:
            Search(
                study, self.candidates.space, self.race, engine, limits, self.study.progress, told
            ).run()
        finally:
            engine.close()
            study.close()
        if told.set and study.least_bad is None:
            raise KeyboardInterrupt  # there is nothing to write yet

    def _engine(self) -> Engine:
        asked = self.asked
        count = asked.workers or 1
        if count == 1 and asked.engine == "local":
            return Here(Measurer(self.candidates, self.evaluator, self.race))
        counts = [one.module_evaluator.count for one in self.evaluator.every]
        alone = replace(asked, recipe=dict(self.candidates.space.text.raw), progress=None)
        opening = partial(open_measurer, alone, counts)
        if asked.engine == "ray":
            from mergekit_geo.searches.ray_engine import RayEngine

            return RayEngine(opening, asked.ray_address, asked.num_gpus, asked.workers)
        from mergekit_geo.searches.pool import Pool

        return Pool(opening, count)

    def _taken(self) -> Finished | None:
        """The trial that is written."""
        study, wanted = self.kept, self.asked.take
        if wanted is not None:
            return self._wanted(wanted)
        if self.race.pareto:
            return None
        if (best := study.best) is not None:
            return best
        if (least := study.least_bad) is None:
            raise DataError("no trial was measured, so there is none to write")
        raise DataError(
            f"no trial keeps {' and '.join(self.asked.aiming.keep)}; the least bad, trial "
            f"{least.number} ({said(least.values)}), is significantly worse by {least.lost:.4f}",
            remedy=f"--take {least.number} writes it all the same; or keep fewer sets",
        )

    def _wanted(self, number: int) -> Finished:
        found = {one.number: one for one in self.kept.finished() if one.is_whole}
        if number not in found:
            there = f"{len(found)} whole trials, such as {', '.join(map(str, list(found)[:5]))}"
            raise ArgumentError(
                f"--take {number}: there is no such trial that was measured to the end",
                where=self.kept.where,
                remedy=f"the study has {there}" if found else "the study has no trials yet",
            )
        return found[number]

    def _point(self, trial: Finished) -> Point:
        return self.candidates.point(trial.values, f"trial {trial.number}")

    def _front(self) -> list[tuple[int, Point]]:
        return [(one.number, self._point(one)) for one in self.kept.front]

    def _references(self) -> list[Reference]:
        """The default recipe, the uniform soup and the best parent."""
        space, names = self.candidates.space, self.evaluator.names
        best = min(range(len(names)), key=self.aim.at_model)
        uniform = Point.mean(self.candidates.members, names, UNIFORM)
        return [
            Reference(DEFAULT, self.candidates.point(space.defaults, DEFAULT)),
            Reference(UNIFORM, uniform),
            Reference(BEST_PARENT, Point.model(best, names[best]), names[best]),
        ]


def _data_key(study: Study) -> Any:
    """What tells the data of a set from others."""
    if study.sample is not None:
        return [study.sample.objective.digest, study.weight]
    return ["a function", study.weight]


def _improvements(entry: SearchEntry) -> list[tuple[str, float]]:
    """Trials that were the best when they were made, and what they count."""
    found: list[tuple[str, float]] = []
    for trial in entry.trials:
        if trial.value is None or not (trial.is_whole and trial.is_feasible):
            continue
        if not found or trial.value < found[-1][1]:
            found.append((trial.title or f"trial {trial.number}", trial.value))
    return found
