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
from mergekit_geo.evaluation.evaluator import Evaluator
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

    Attributes:
        study: What is measured, on what and how.
        anchors: The models.
        live: The module.
        module_evaluator: Measures it.
        refresh: Called on the module after each move between models (BatchNorm statistics).
        refresh_models: Whether it is called at the models themselves, too.
        cache: Of finished points; None where none are kept.
        warnings: What the user should know of BatchNorm statistics.
    """

    study: Study
    anchors: Sequence[Checkpoint]
    live: Live
    module_evaluator: Evaluator
    refresh: Callable[[Module], object]
    refresh_models: bool = True
    cache: LossCache | None = None
    warnings: tuple[str, ...] = ()
    _seen: dict[str, Losses] = field(default_factory=dict)
    _split: Split | None = None

    @classmethod
    def open(
        cls,
        study: Study,
        evaluations: int,
        *,
        anchors: Sequence[Checkpoint] | None = None,
        refresh_models: bool = True,
    ) -> PointEvaluator:
        """Load a module, and get ready to measure it anywhere between models.

        Finished points of models in folders are kept in the user's cache.

        Args:
            study: What is measured, on what and how.
            evaluations: How many measurements are to come.
            anchors: Models whose data is here; those of the study if None.
            refresh_models: Estimate BatchNorm statistics anew at the models themselves, too.

        Raises:
            DataError: Nothing can be measured.
        """
        study.require_measurable()
        assert study.plan.objective is not None
        models = study.anchors if anchors is None else anchors
        held = hold(models, study.compute.anchors_in_memory)
        first = Blend((held[0],), Linear((1.0,)))
        live = open_live(first, study.compute)
        live.put(first)
        evaluator = Evaluator(
            study.plan.objective, study.compute, evaluations=evaluations, seed=study.seed,
            progress=study.progress,
        )  # fmt: skip
        refresh, training, warnings = refreshing(live.model, models[0], study)
        train = study.statistics_data and asdict(study.statistics_data)
        fed = training and [training.digest, training.objective.digest]
        plans = [evaluations, study.compute.budget, refresh_models, train, fed]
        cache = _cache(study, models, plans, evaluator)
        _settle(evaluator, cache, live.model)
        return cls(study, held, live, evaluator, refresh, refresh_models, cache, warnings)

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
    def documents(self) -> int:
        """Number of documents of the selection half."""
        return len(set(self.at_model(0).document[self.split.selection].tolist()))

    def tell_where(self) -> None:
        """Report where measured points are cached, if they are."""
        if self.cache is not None and self.cache.cache.works:
            self.study.progress.say(f"finished points are kept in {self.cache.folder}")

    def between_models(self, first: Checkpoint, last: Checkpoint) -> PointEvaluator:
        """Evaluator of two other anchors with this module and examples; nothing is cached."""
        return replace(self, anchors=(first, last), cache=None, _seen={}, _split=self.split)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models."""
        return tuple(anchor.name for anchor in self.anchors)

    def at_model(self, index: int) -> Losses:
        """Losses of one of the models."""
        return self.at(Point.model(index, self.anchors[index].name))

    def at(self, point: Point) -> Losses:
        """Losses at a point, which is measured once."""
        if point.key not in self._seen:
            found = self.cache.get(point.key) if self.cache else None
            self._seen[point.key] = found or self._measure(point)
        return self._seen[point.key]

    def go_to(self, point: Point) -> None:
        """Give the module the weights of a point, and statistics of its own."""
        blend = point.blend(self.anchors)
        self.live.put(blend)
        if self.refresh_models or len(blend.anchors) > 1:
            self.refresh(self.live.model)

    def leave(self) -> None:
        """Release the module; losses that were measured stay cached."""
        self.live = _Gone()

    def _measure(self, point: Point) -> Losses:
        self.go_to(point)
        found = self.module_evaluator.measure_any(point.title, self.live.model)
        if self.cache:
            require_unchanged(self.anchors)
            self.cache.put(point.key, found)
        return found


def _cache(
    study: Study, models: Sequence[Checkpoint], plans: Sequence[object], evaluator: Evaluator
) -> LossCache | None:
    """Where finished points are kept; None where changes of a model cannot be detected."""
    if study.sample is None or any(model.folder is None for model in models):
        return None
    key = cache_key(models, study.sample, study.data, study.compute, *plans)
    return LossCache(key, evaluator.warnings.append)


def _settle(evaluator: Evaluator, cache: LossCache | None, model: Module) -> None:
    """Set the number of examples: an earlier run's if cached, else what the budget allows."""
    settled = broadcast(cache.settled(evaluator.count) if cache and is_main_process() else None)
    if settled is None:
        evaluator.fit(model)
    else:
        evaluator.take(settled)
    if cache:
        cache.count = evaluator.count
        if settled is None:
            cache.settle(evaluator.count)
