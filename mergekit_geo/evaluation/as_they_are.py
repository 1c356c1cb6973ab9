"""Models measured as they are: by their own tokenizer, in their own architecture."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import TYPE_CHECKING

import numpy as np

from mergekit_geo.checkpoints.sources import original
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.config.data import source_of
from mergekit_geo.errors import DataError, GeoError
from mergekit_geo.evaluation.block_influence import block_influence
from mergekit_geo.evaluation.cache import LossCache, NoCache, RecordCache
from mergekit_geo.evaluation.cache_key import cache_key
from mergekit_geo.evaluation.evaluator import Evaluator
from mergekit_geo.evaluation.model_losses import ITSELF, model_cache
from mergekit_geo.evaluation.sample import Sample, prepare_beside
from mergekit_geo.evaluation.tokenization import tokenizations
from mergekit_geo.modules.open import open_module
from mergekit_geo.records.influence import InfluenceEntry
from mergekit_geo.records.tokenization import TokenizationEntry
from mergekit_geo.tasks.losses import Losses
from mergekit_geo.tasks.per_byte import TOKEN

if TYPE_CHECKING:
    from torch.nn import Module

    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.config.measures import Compute
    from mergekit_geo.evaluation.objective import Objective
    from mergekit_geo.evaluation.study import Study


class OneModule:
    """The module of one model at a time, for all sets that the model is measured on."""

    def __init__(self) -> None:
        self._model: Checkpoint | None = None
        self._module: Module | None = None

    def of(self, model: Checkpoint, compute: Compute) -> Module:
        """The module of a model, in place of that of another one."""
        if self._module is None or self._model is not model:
            self._module = None
            gc.collect()
            self._module, self._model = open_module(model, compute), model
        return self._module


@dataclass(frozen=True)
class AsItIs:
    """One model as it is, measured on documents that another was measured on.

    Attributes:
        study: What the other is measured on, and how.
        model: Its data is here.
        documents: Indices of the documents.
        warn: Told of a cache that cannot be used.
        opened: Holds its module.
    """

    study: Study
    model: Checkpoint
    documents: Collection[int]
    warn: Callable[[str], None]
    opened: OneModule

    def losses(self) -> Losses:
        """Losses of its own windows of the documents; those of an earlier run, if there are any.

        Raises:
            DataError: Its tokenizer or its context is not for this data.
        """
        cache = self._cache
        known = None if cache is None else cache.get(ITSELF)
        if known is not None:
            return known
        study = self.study
        evaluator = Evaluator(
            self._objective, study.compute, evaluations=1, progress=study.progress
        )
        found = evaluator.measure_any(f"{self.model.name} as it is", self._module)
        require_unchanged([self.model])
        if cache is not None:
            cache.put(ITSELF, found)
        return found

    def influence(self) -> InfluenceEntry | None:
        """Block influence of its layers; None where the objective is a function of the caller's."""
        sample = self._sample
        if sample is None:
            return None
        cache = NoCache() if self._key is None else RecordCache(self._key, self.warn)
        name, seed = self.model.name, self.study.seed
        return cache.recall(
            f"influence {name}",
            InfluenceEntry,
            lambda: block_influence(self._module, sample.objective, name, seed),
        )

    @property
    def _cache(self) -> LossCache | None:
        """Where its losses are kept; None where its changes cannot be detected."""
        own, plan = self._sample, replace(self.study.plan, sample=self._sample)
        cache = model_cache(
            replace(self.study, models=(self.model,), plan=plan), self.model, self.warn
        )
        if cache is not None and own is not None:
            cache.count = len(own.objective.kept)
        return cache

    @property
    def _module(self) -> Module:
        return self.opened.of(self.model, self.study.compute)

    @cached_property
    def _sample(self) -> Sample | None:
        """The documents, cut by the model's own tokenizer; None where there is no data."""
        shared, settings = self.study.sample, source_of(self.study.data).as_settings
        if shared is None or settings is None:
            return None
        if self.model.folder is None:
            raise DataError("a model in memory comes without its tokenizer")
        compute = self.study.compute
        own = prepare_beside(shared, settings, self.model.folder, self.model.config, compute)
        return replace(own, objective=own.objective.of_documents(self.documents))

    @property
    def _objective(self) -> Objective:
        found = self.study.plan.objective if self._sample is None else self._sample.objective
        assert found is not None, "there is nothing to measure on"
        return found

    @cached_property
    def _key(self) -> list[object] | None:
        """What the numbers depend on; None where changes of the model cannot be detected."""
        if self._sample is None or self.model.folder is None:
            return None
        study = self.study
        return cache_key([self.model], self._sample, study.data, study.compute, "as it is")


class AsTheyAre:
    """Models measured as they are, on the documents that an output was measured on.

    Args:
        study: What the output is measured on, and how.
        output: Its losses.
        instead: What becomes of a model that cannot be measured as it is.

    Attributes:
        warnings: What could not be measured, and why.
    """

    def __init__(
        self, study: Study, output: Losses, instead: str = "is measured by the output's tokenizer"
    ) -> None:
        self.study, self.documents = study, frozenset(output.document.tolist())
        self.instead = instead
        self.warnings: list[str] = []

    def measure(
        self, model: Checkpoint, opened: OneModule, *, layers: bool = False
    ) -> tuple[Losses, InfluenceEntry | None] | None:
        """Losses by its own tokenizer, and block influence if its layers are looked at, too.

        None, and a warning, where they could not be compared, or cannot be had.

        Args:
            model: The model.
            opened: Holds its module.
            layers: Look at its layers.
        """
        shared = self.study.sample
        if self.study.plan.unlike and shared and shared.objective.task.unit == TOKEN:
            task = shared.objective.task.name
            self._miss(
                model, f"{task} has no loss that can be compared where texts are cut differently"
            )
            return None
        one = AsItIs(self.study, model, self.documents, self.warnings.append, opened)
        try:
            return one.losses(), one.influence() if layers else None
        except GeoError as error:
            self._miss(model, str(error))
            return None

    def _miss(self, model: Checkpoint, why: str) -> None:
        self.warnings.append(f"{model.name} {self.instead}: {why}")

    def tokenization(self) -> list[TokenizationEntry]:
        """How the models' own tokenizers cut the documents, of those that have another."""
        plan, settings = self.study.plan, source_of(self.study.data).as_settings
        models = [original(self.study.anchors[i]) for i in plan.unlike]
        folders = {model.name: model.folder for model in models if model.folder is not None}
        if not folders or plan.sample is None or plan.tokenizer is None or settings is None:
            return []
        task = plan.sample.objective.task
        return tokenizations(
            folders, plan.tokenizer, task, settings, self.documents, self.study.compute
        )


def on_common_documents(found: Sequence[Losses]) -> list[Losses]:
    """Losses by document, of those that all models were measured on.

    Example:
        >>> first = Losses(np.array([1.0, 3.0, 5.0]), np.ones(3), np.array([0, 0, 1]))
        >>> second = Losses(np.array([2.0, 9.0]), np.ones(2), np.array([0, 7]))
        >>> [losses.loss.tolist() for losses in on_common_documents([first, second])]
        [[2.0], [2.0]]
    """
    each = [losses.by_document() for losses in found]
    common = reduce(np.intersect1d, (losses.document for losses in each))
    return [losses.take(np.flatnonzero(np.isin(losses.document, common))) for losses in each]
