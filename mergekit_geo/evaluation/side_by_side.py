"""Losses of models by themselves on every set: one evaluation a model and set, kept for others."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.config.data import NO_DATA
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.as_they_are import on_common_documents
from mergekit_geo.evaluation.cache import LossCache
from mergekit_geo.evaluation.cache_key import cache_key
from mergekit_geo.evaluation.evaluator import Evaluator, fit
from mergekit_geo.evaluation.groups import Group, read_the_same
from mergekit_geo.evaluation.losses import run_with
from mergekit_geo.evaluation.model_losses import ITSELF, model_cache
from mergekit_geo.evaluation.objective import Objective, TaskObjective
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.modules.open import open_live, open_module
from mergekit_geo.processes import broadcast, is_main_process
from mergekit_geo.tasks.losses import Losses
from mergekit_geo.tasks.per_byte import TOKEN

if TYPE_CHECKING:
    from torch.nn import Module

    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.config.measures import Compute
    from mergekit_geo.evaluation.sample import Sample
    from mergekit_geo.evaluation.study import Study
    from mergekit_geo.modules.blend import Live

Place = tuple[str, str, str]


@dataclass(frozen=True)
class SetLosses:
    """What was measured of all models on one set.

    Attributes:
        study: What was measured, as the first model reads it.
        samples: The examples that each model was measured on; None of a function of the caller's.
        losses: Of each model on its examples.
        paired: The same where they can be compared, example by example or by document; None where
            they cannot.
    """

    study: Study
    samples: Sequence[Sample | None]
    losses: Sequence[Losses]
    paired: Sequence[Losses] | None


@dataclass(frozen=True)
class Measured:
    """What was measured of all models.

    Attributes:
        sets: On each set.
        place: Device, dtype and attention that models were run with; None where all was known.
        warnings: What was left out.
    """

    sets: Sequence[SetLosses]
    place: Place | None
    warnings: Sequence[str]


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

    def __init__(self, group: Group, count: int) -> None:
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


def measure_groups(groups: Sequence[Group]) -> Measured:
    """Measure all models on every set; those of a group share a module.

    Args:
        groups: As `groups_of` gives them.

    Raises:
        DataError: A loss is not a number.
    """
    count = sum(len(group.places) for group in groups)
    found: dict[int, tuple[list[Losses], GroupEvaluator]] = {}
    first: GroupEvaluator | None = None
    for group in groups:
        own = GroupEvaluator(group, count)
        if first is None:
            first = own
            own.settle()
        else:
            own.follow(first)
        found |= {i: (losses, own) for i, losses in zip(group.places, own.losses(), strict=True)}
        own.leave()
    every = [found[i] for i in range(count)]
    sets = [_set_losses(groups, every, number) for number in range(len(groups[0].studies))]
    evaluators = list(dict.fromkeys(own for _, own in every))
    warnings = [text for own in evaluators for one in own.evaluators for text in one.warnings]
    place = next((own.place for own in evaluators if own.place), None)
    return Measured(sets, place, [*warnings, *_not_compared(sets)])


def _set_losses(
    groups: Sequence[Group], every: Sequence[tuple[list[Losses], GroupEvaluator]], number: int
) -> SetLosses:
    """One set of all models."""
    losses = [own[number] for own, _ in every]
    samples = [own.sample(number) for _, own in every]
    studies = [group.studies[number] for group in groups]
    first = studies[0]
    paired: Sequence[Losses] | None = losses
    if not read_the_same(studies):
        per_token = first.sample is not None and first.sample.objective.task.unit == TOKEN
        paired = None if per_token else on_common_documents(losses)
    return SetLosses(first, samples, losses, paired)


def _not_compared(sets: Sequence[SetLosses]) -> list[str]:
    return [
        f"losses on {one.study.name} are not compared: models read it differently, and "
        f"{one.study.sample.objective.task.name} has no loss that can be compared then"
        for one in sets
        if one.paired is None and one.study.sample is not None
    ]


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
