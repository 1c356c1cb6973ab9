"""Losses at points between models, each measured once: in one module, and kept for a later run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.evaluation.batch_norm import refreshing
from mergekit_geo.evaluation.cache import LossCache
from mergekit_geo.evaluation.cache_key import cache_key
from mergekit_geo.evaluation.evaluator import Evaluator, fit
from mergekit_geo.evaluation.model_losses import ITSELF, model_cache
from mergekit_geo.evaluation.objective import Objective
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.split import Split
from mergekit_geo.evaluation.study import Study
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.modules.blend import Live
from mergekit_geo.modules.held import hold
from mergekit_geo.modules.open import open_live
from mergekit_geo.processes import broadcast, is_main_process
from mergekit_geo.tasks.losses import Losses


class _Gone:
    """Placeholder for a module that was released."""

    @property
    def model(self) -> Module:
        raise AssertionError("the module was released")

    def put(self, blend: Blend) -> None:
        raise AssertionError("the module was released")


@dataclass
class PointEvaluator:
    """Takes one module from point to point between models, and measures losses there.

    Of several sets of data each has an evaluator of its own, and all share the module.

    Attributes:
        study: What is measured, on what and how.
        anchors: The models.
        live: The module.
        module_evaluator: Measures it.
        refresh: Called on the module after each move between models (BatchNorm statistics).
        refresh_models: Whether it is called at the models themselves, too.
        cache: Of finished points; None where none are kept.
        model_caches: Of each model by itself, for whatever command measures it.
        warnings: What the user should know of BatchNorm statistics.
        further: Evaluators on further sets.
    """

    study: Study
    anchors: Sequence[Checkpoint]
    live: Live
    module_evaluator: Evaluator
    refresh: Callable[[Module], object]
    refresh_models: bool = True
    cache: LossCache | None = None
    model_caches: Sequence[LossCache | None] = ()
    warnings: tuple[str, ...] = ()
    further: tuple[PointEvaluator, ...] = ()
    _seen: dict[str, Losses] = field(default_factory=dict)
    _split: Split | None = None
    _best: Losses | None = None

    @classmethod
    def open(
        cls,
        study: Study,
        evaluations: int,
        *,
        anchors: Sequence[Checkpoint] | None = None,
        refresh_models: bool = True,
        counts: Sequence[int] = (),
    ) -> PointEvaluator:
        """Load a module, and get ready to measure it anywhere between models.

        Finished points of models in folders are kept in the user's cache.

        Args:
            study: What is measured, on what and how.
            evaluations: How many measurements are to come.
            anchors: Models whose data is here; those of the study if None.
            refresh_models: Estimate BatchNorm statistics anew at the models themselves, too.
            counts: Examples of each set, where others have settled them; as the budget allows if
                empty.

        Raises:
            DataError: Nothing can be measured.
        """
        study.require_measurable()
        models = study.anchors if anchors is None else anchors
        held = hold(models, study.compute.anchors_in_memory)
        first = Blend((held[0],), Linear((1.0,)))
        live = open_live(first, study.compute, held)
        live.put(first)
        refresh, training, warnings = refreshing(live.model, models[0], study)
        train = study.statistics_data and asdict(study.statistics_data)
        fed = training and [training.digest, training.objective.digest]
        made = []
        for one in study.sets:
            evaluator = _evaluator(one, evaluations)
            cache = _cache(
                one, models, evaluator, evaluations, one.compute.budget, refresh_models, train, fed
            )
            alone = [train, fed] if fed and refresh_models else []
            warn = evaluator.warnings.append
            caches = [model_cache(one, model, warn, alone) for model in models]
            made.append(
                cls(one, held, live, evaluator, refresh, refresh_models, cache, caches, warnings)
            )
        _settle(made, counts)
        return replace(made[0], further=tuple(made[1:]))

    @property
    def every(self) -> tuple[PointEvaluator, ...]:
        """An evaluator a set, this one first."""
        return self, *self.further

    @property
    def all_warnings(self) -> list[str]:
        """What the user should know of BatchNorm statistics, and of the samples of all sets."""
        samples = [text for one in self.every for text in one.module_evaluator.warnings]
        return [*self.warnings, *samples]

    @property
    def objective(self) -> Objective:
        """The objective, on the examples that are measured."""
        return self.module_evaluator.objective

    @property
    def split(self) -> Split:
        """The two halves of the examples: one selects, the other reports.

        Raises:
            DataError: Too few documents for both.
        """
        if self._split is None:
            self._split = Split.of(self.at_model(0), self.objective.documents, self.study.seed)
        return self._split

    @property
    def best(self) -> Losses:
        """Losses of the model that is best on the selection half."""
        if self._best is None:
            found = [self.at_model(i) for i in range(len(self.anchors))]
            self._best = min(found, key=lambda losses: losses.take(self.split.selection).mean)
        return self._best

    @property
    def documents(self) -> int:
        """Number of documents of the selection half."""
        return len(set(self.at_model(0).document[self.split.selection].tolist()))

    def tell_where(self) -> None:
        """Report where measured points are cached, if they are."""
        if self.cache is not None and self.cache.cache.works:
            self.study.progress.say(f"finished points are kept in {self.cache.folder}")

    def between_models(self, first: Checkpoint, last: Checkpoint) -> PointEvaluator:
        """Evaluator of two other anchors with this module and examples; nothing is cached.

        The best model of each set stays that of all models.
        """
        is_compared = bool(self.further) or self._best is not None
        here, *further = (
            replace(
                one, anchors=(first, last), cache=None, model_caches=(), further=(), _seen={},
                _split=one.split, _best=one.best if is_compared else None,
            )
            for one in self.every
        )  # fmt: skip
        return replace(here, further=tuple(further))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models."""
        return tuple(anchor.name for anchor in self.anchors)

    def at_model(self, index: int) -> Losses:
        """Losses of one of the models."""
        return self.at(Point.model(index, self.anchors[index].name))

    def at(self, point: Point) -> Losses:
        """Losses at a point on this set, which is measured once."""
        if not self._knows(point):
            self.go_to(point)
            self._measure(point)
        return self._seen[point.key]

    def at_all(self, point: Point) -> list[Losses]:
        """Losses at a point on every set; the module moves once."""
        if unknown := [one for one in self.every if not one._knows(point)]:
            self.go_to(point)
            for one in unknown:
                one._measure(point)
        return [one._seen[point.key] for one in self.every]

    def go_to(self, point: Point) -> None:
        """Give the module the weights of a point, and statistics of its own."""
        blend = point.blend(self.anchors)
        self.live.put(blend)
        if self.refresh_models or len(blend.anchors) > 1:
            self.refresh(self.live.model)

    def leave(self) -> None:
        """Release the module; losses that were measured stay cached."""
        for one in self.every:
            one.live = _Gone()

    def _knows(self, point: Point) -> bool:
        """Whether losses at a point were measured, by this run or an earlier one."""
        if point.key not in self._seen:
            cache = self._cache_of(point)
            found = cache.get(_stored_as(point)) if cache else None
            if found is None:
                return False
            self._seen[point.key] = found
        return True

    def _measure(self, point: Point) -> None:
        """Measure the module where it stands."""
        found = self.module_evaluator.measure_any(point.title, self.live.model)
        if (cache := self._cache_of(point)) is not None:
            require_unchanged(self.anchors)
            cache.put(_stored_as(point), found)
        self._seen[point.key] = found

    def _cache_of(self, point: Point) -> LossCache | None:
        if (index := point.alone) is not None and self.model_caches:
            return self.model_caches[index]
        return self.cache


def _stored_as(point: Point) -> str:
    """What losses at a point are kept under; those of a model do not depend on what is beside."""
    return point.key if point.alone is None else ITSELF


def _evaluator(study: Study, evaluations: int) -> Evaluator:
    assert study.plan.objective is not None
    evaluator = Evaluator(
        study.plan.objective, study.compute, evaluations=evaluations, seed=study.seed,
        progress=study.progress,
    )  # fmt: skip
    evaluator.part = f"losses on {study.name}"
    return evaluator


def _cache(
    study: Study, models: Sequence[Checkpoint], evaluator: Evaluator, *plans: object
) -> LossCache | None:
    """Where finished points are kept; None where changes of a model cannot be detected."""
    if study.sample is None or any(model.folder is None for model in models):
        return None
    key = cache_key(models, study.sample, study.data, study.compute, *plans)
    return LossCache(key, evaluator.warnings.append)


def _settle(evaluators: Sequence[PointEvaluator], counts: Sequence[int]) -> None:
    """Set the numbers of examples: those given, an earlier run's, or what the budget allows."""
    given: Sequence[int | None] = counts or [None] * len(evaluators)
    for one, count in zip(evaluators, given, strict=True):
        cache, most = one.cache, one.module_evaluator.count
        known = cache.settled(most) if cache and is_main_process() else None
        settled = broadcast(known) if count is None else count
        if settled is not None:
            one.module_evaluator.take(settled)
    fit([one.module_evaluator for one in evaluators], evaluators[0].live.model)
    for one in evaluators:
        for kept in filter(None, (one.cache, *one.model_caches)):
            kept.count = one.module_evaluator.count
        if one.cache is not None:
            one.cache.settle(one.module_evaluator.count)
