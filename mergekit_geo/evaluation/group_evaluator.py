"""Measuring models that can share a module, one after another, on every set."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.config.data import NO_DATA
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.cache import LossCache
from mergekit_geo.evaluation.cache_key import cache_key
from mergekit_geo.evaluation.evaluator import Evaluator, fit
from mergekit_geo.evaluation.groups import ModelGroup, read_the_same
from mergekit_geo.evaluation.losses import run_with
from mergekit_geo.evaluation.model_losses import ITSELF, model_cache
from mergekit_geo.evaluation.objective import Objective, TaskObjective
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.modules.open import open_live, open_module
from mergekit_geo.processes import broadcast, is_main_process
from mergekit_geo.tasks.losses import Losses

if TYPE_CHECKING:
    from torch.nn import Module

    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.config.measures import Compute
    from mergekit_geo.evaluation.sample import Sample
    from mergekit_geo.evaluation.study import Study
    from mergekit_geo.modules.blend import Live

Place = tuple[str, str, str]
"""Device, dtype and attention backend."""


class OneAfterAnother:
    """A module that stands at one model after another; loaded when it is first needed.

    Args:
        models: Of one architecture, their data here.
        compute: How they are run.
    """

    def __init__(self, models: Sequence[Checkpoint], compute: Compute) -> None:
        self.models, self.compute = models, compute
        self._live: Live | None = None

    def at(self, index: int) -> Module:
        """The module with the weights of one of the models."""
        if len(self.models) == 1:
            return open_module(self.models[0], self.compute)
        blend = Blend((self.models[index],), Linear((1.0,)))
        if self._live is None:
            first = Blend((self.models[0],), Linear((1.0,)))
            self._live = open_live(first, self.compute)
        self._live.put(blend)
        return self._live.model


class GroupEvaluator:
    """Measures the models of a group on every set, what is not known of them.

    Args:
        group: The models, and what is measured.
        count: How many models there are in all.
    """

    def __init__(self, group: ModelGroup, count: int) -> None:
        self.group, self.anchors = group, group.anchors()
        self.module = OneAfterAnother(self.anchors, group.studies[0].compute)
        self.studies = list(group.studies)
        self.evaluators = [_evaluator(study, count) for study in self.studies]
        self.place: Place | None = None
        self._caches: dict[tuple[int, int], LossCache | None] = {}

    def settle(self) -> None:
        """Fix how many examples are measured: all that were, or as many as the budget allows."""
        if all(self._known(i, k) is not None for i, k in self._cells()):
            self._take([one.count for one in self.evaluators])
            return
        kept = [self._counts(study) for study in self.studies]
        found = [
            cache.settled(one.count) if cache and is_main_process() else None
            for one, cache in zip(self.evaluators, kept, strict=True)
        ]
        counts = [count for count in broadcast(found) if count is not None]
        if len(counts) == len(kept):
            self._take(counts)
            return
        fit(self.evaluators, self.module.at(0))
        for one, cache in zip(self.evaluators, kept, strict=True):
            if cache is not None:
                cache.settle(one.count)

    def follow(self, first: GroupEvaluator) -> None:
        """Measure what another group is measured on."""
        for number, (own, other) in enumerate(zip(self.evaluators, first.evaluators, strict=True)):
            study = self.studies[number]
            if read_the_same([study, first.studies[number]]):
                own.take(other.count)
                continue
            some = _on_documents_of(study, other.objective)
            self.studies[number], own.objective = some, _objective(some)
            own.take(own.count)

    def losses(self) -> list[list[Losses]]:
        """Losses of each model on each set."""
        return [
            [self._measured(i, k) for k in range(len(self.evaluators))]
            for i in range(len(self.anchors))
        ]

    def sample(self, number: int) -> Sample | None:
        """What is measured on one of the sets."""
        known, objective = self.studies[number].sample, self.evaluators[number].objective
        if known is None or not isinstance(objective, TaskObjective):
            return None
        return replace(known, objective=objective)

    def leave(self) -> None:
        """Let the module go."""
        self.module = OneAfterAnother(self.anchors, self.group.studies[0].compute)
        gc.collect()

    def _measured(self, model: int, number: int) -> Losses:
        known = self._known(model, number)
        if known is None:
            known = self._measure(model, number)
        if not math.isfinite(known.mean):
            raise DataError("the loss is not a number", where=self.anchors[model].name)
        return known

    def _measure(self, model: int, number: int) -> Losses:
        evaluator, module = self.evaluators[number], self.module.at(model)
        found = evaluator.measure_any(self.anchors[model].name, module)
        self.place = run_with(module)
        if (cache := self._cache(model, number)) is not None:
            require_unchanged([self.anchors[model]])
            cache.put(ITSELF, found)
        return found

    def _known(self, model: int, number: int) -> Losses | None:
        """Losses that any command has measured, on these examples."""
        cache = self._cache(model, number)
        return None if cache is None else cache.get(ITSELF)

    def _cache(self, model: int, number: int) -> LossCache | None:
        evaluator, cell = self.evaluators[number], (model, number)
        if cell not in self._caches:
            study, warn = self.studies[number], evaluator.warnings.append
            self._caches[cell] = model_cache(study, self.anchors[model], warn)
        if (cache := self._caches[cell]) is not None:
            cache.count = evaluator.count
        return cache

    def _counts(self, study: Study) -> LossCache | None:
        """Where it is kept how many examples the budget allowed."""
        if study.sample is None or any(model.folder is None for model in self.anchors):
            return None
        key = cache_key(
            self.anchors, study.sample, NO_DATA, study.compute, "side by side", study.seed,
            study.compute.budget, self.evaluators[0].evaluations,
        )  # fmt: skip
        return LossCache(key)

    def _cells(self) -> list[tuple[int, int]]:
        return [(i, k) for i in range(len(self.anchors)) for k in range(len(self.evaluators))]

    def _take(self, counts: Sequence[int]) -> None:
        for one, count in zip(self.evaluators, counts, strict=True):
            one.take(count)


def _on_documents_of(study: Study, other: Objective) -> Study:
    """What a group is measured on where another is measured on these examples."""
    assert study.sample is not None, "documents without a sample"
    assert isinstance(other, TaskObjective), "documents without a task"
    objective = study.sample.objective.of_documents({one.document for one in other.kept})
    sample = replace(study.sample, objective=objective)
    return replace(study, plan=replace(study.plan, objective=objective, sample=sample))


def _objective(study: Study) -> Objective:
    assert study.plan.objective is not None, "there is nothing to measure on"
    return study.plan.objective


def _evaluator(study: Study, evaluations: int) -> Evaluator:
    evaluator = Evaluator(
        _objective(study), study.compute, evaluations=evaluations, seed=study.seed,
        progress=study.progress,
    )  # fmt: skip
    evaluator.part = f"losses on {study.name}"
    return evaluator
