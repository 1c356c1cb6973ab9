"""The Fisher of a model on its data, and where it is kept in the user's cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.content import model_key
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.checkpoints.tensor_file import open_tensors
from mergekit_geo.config.measures import Compute
from mergekit_geo.evaluation.cache_key import cache_key
from mergekit_geo.evaluation.sample import Sample
from mergekit_geo.evaluation.statistic_cache import StatisticCache
from mergekit_geo.merging.weighed import FisherSettings
from mergekit_geo.records.statistics import StatisticEntry

if TYPE_CHECKING:
    from mergekit_geo.config.sets import DataSource

Facts = Mapping[str, Any]
"""What is noted of a Fisher: how many examples and documents, and what it took."""


@dataclass(frozen=True)
class ModelFisher:
    """The diagonal Fisher of a model.

    Attributes:
        tensors: float32, under the model's tensor names.
        key: Changes when the tensors do.
        entry: What it is an estimate from, for the report.
    """

    tensors: Checkpoint
    key: str
    entry: StatisticEntry


@dataclass(frozen=True)
class FisherStore:
    """Where the Fisher of one model on its data is kept.

    Attributes:
        model: Whose Fisher it is.
        source: Its data.
        sample: Its examples; None for a function of the caller's.
        settings: What it is an estimate from.
        cache: The folder; None where changes of model or data cannot be detected.
    """

    model: Checkpoint
    source: DataSource
    sample: Sample | None
    settings: FisherSettings
    cache: StatisticCache | None

    @classmethod
    def of(
        cls,
        model: Checkpoint,
        source: DataSource,
        sample: Sample | None,
        settings: FisherSettings,
        compute: Compute,
        warn: Callable[[str], None],
    ) -> FisherStore:
        """The one of a model on its data, whatever the batch size and the name of the data.

        Args:
            model: Whose Fisher it is.
            source: Its data.
            sample: Its examples.
            settings: What it is an estimate from.
            compute: How the model is run.
            warn: Told what the user should know.
        """
        if sample is None or model.folder is None:
            return cls(model, source, sample, settings, None)
        single = replace(sample, objective=replace(sample.objective, batch_size=1))
        data = source.replaced(batch_size=None, source="")
        names = hashlib.sha256("\n".join(model.tensors).encode()).hexdigest()
        numbers = [settings.examples, settings.labels, names]
        key = cache_key([model], single, data, compute, "fisher", *numbers)
        return cls(model, source, sample, settings, StatisticCache(key, warn))

    def kept(self) -> ModelFisher | None:
        """What an earlier run has computed; None where there is nothing.

        Raises:
            DataError: It is of something else.
        """
        found = None if self.cache is None else self.cache.kept(self._origin)
        if found is None:
            return None
        return self._fisher(self._opened(found.path), found.digest, found.facts, reused=True)

    def keep(self, tensors: dict[str, Tensor], facts: Facts) -> ModelFisher:
        """Keep what was computed, in memory where nothing can be written.

        Args:
            tensors: By the model's tensor names.
            facts: What is noted of them.
        """
        kept = None if self.cache is None else self.cache.keep(tensors, self._origin, facts)
        if kept is not None:
            return self._fisher(self._opened(kept.path), kept.digest, kept.facts)
        total = hashlib.sha256()
        for name, tensor in tensors.items():
            total.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return self._fisher(of_state(tensors, self._name), total.hexdigest(), facts)

    @property
    def _name(self) -> str:
        return f"Fisher of {self.model.name}"

    @property
    def _origin(self) -> dict[str, str]:
        if self.sample is None:
            return {}
        key = json.dumps(model_key(self.model), sort_keys=True, default=repr)
        return {
            "model": hashlib.sha256(key.encode()).hexdigest()[:16],
            "data": self.sample.digest[:16],
            "examples": str(self.settings.examples),
            "labels": self.settings.labels,
        }

    def _opened(self, path: Path) -> Checkpoint:
        return open_tensors(path, self._name)

    def _fisher(
        self, tensors: Checkpoint, key: str, facts: Facts, *, reused: bool = False
    ) -> ModelFisher:
        data = self.source.as_settings
        entry = StatisticEntry(
            model=self.model.name, kind="Fisher", shared=False, reused=reused,
            source="a function" if data is None else data.origin,
            digest="" if self.sample is None else self.sample.digest, labels=self.settings.labels,
            settings={"examples": self.settings.examples, "seed": self.source.seed}, **facts,
        )  # fmt: skip
        return ModelFisher(tensors, key, entry)
