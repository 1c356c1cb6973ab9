"""Gram matrices of a checkpoint on its training data, kept and resumed in the user's cache."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from mergekit_geo.activations.examples import Examples, examples_of
from mergekit_geo.activations.grams import Gathering, Grams
from mergekit_geo.activations.layers import linear_layers
from mergekit_geo.activations.spool import Spool
from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.clock import Clock
from mergekit_geo.config.measures import Compute
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.cache_key import cache_key
from mergekit_geo.modules.open import open_module
from mergekit_geo.progress import Progress, Silent

if TYPE_CHECKING:
    from mergekit_geo.config.sets import DataSource


@dataclass(frozen=True)
class ModelGrams:
    """Gram matrices of a model, and what they are made of.

    Attributes:
        grams: The matrices.
        examples: What went through the model.
        batches: How many batches of these.
        reused: Whether an earlier run made them.
        seconds: What it took; None where an earlier run had begun it.
    """

    grams: Grams
    examples: Examples
    batches: int
    reused: bool
    seconds: float | None


@dataclass(frozen=True)
class GramRun:
    """Makes Gram matrices of models, or finds them.

    Attributes:
        examples: Of each model's data, at most.
        compute: How models are run.
        clock: The time that may be spent.
        progress: Told what is going on.
        warn: Told what the user should know.
    """

    examples: int
    compute: Compute = Compute()
    clock: Clock = field(default_factory=lambda: Clock(0))
    progress: Progress = field(default_factory=Silent)
    warn: Callable[[str], None] = lambda text: None

    def of(self, model: Checkpoint, source: DataSource) -> ModelGrams:
        """The Gram matrices of a model's linear layers on its data.

        Args:
            model: Its data is here; under the tensor names that the matrices are to have.
            source: The data.

        Raises:
            DataError: The data is unusable, or memory does not hold the model or a batch.
            UnsupportedError: The architecture has no linear layers.
            OutputError: The disk does not hold the matrices.
        """
        examples = examples_of(model, source, self.examples, self.compute)
        spool = self.spool([model], source, examples)
        kept = Grams.kept(spool)
        if kept is not None:
            self.progress.say(f"Gram matrices of {model.name}: made by an earlier run")
            return ModelGrams(kept, examples, spool.state()["batches"], True, None)
        began, fresh = time.monotonic(), not spool.state()
        grams = self._gathered(model, examples, spool)
        require_unchanged([model])
        seconds = round(time.monotonic() - began, 3) if fresh else None
        return ModelGrams(grams, examples, spool.state()["batches"], False, seconds)

    def spool(
        self, models: list[Checkpoint], source: DataSource, examples: Examples, *more: object
    ) -> Spool:
        """Where matrices go that depend on these models, the data, and what else there is.

        In a folder of its own that is removed at the end, where changes cannot be detected.
        """
        if examples.sample is None or any(model.folder is None for model in models):
            spool = Spool(f"grams-{uuid.uuid4().hex[:26]}", self.warn)
            weakref.finalize(spool, Spool(spool.folder.name).clear)
            return spool
        names = sorted(models[0].tensors)
        key = cache_key(models, examples.sample, source, self.compute, "Grams", names, *more)
        text = json.dumps(key, sort_keys=True, default=repr)
        return Spool(f"grams-{hashlib.sha256(text.encode()).hexdigest()[:26]}", self.warn)

    def _gathered(self, model: Checkpoint, examples: Examples, spool: Spool) -> Grams:
        module = open_module(model, self.compute)
        gathering = Gathering(
            module, linear_layers(module, model), examples.batches, examples.sizes, examples.first,
            spool, self.progress, model.name, left=lambda: self.clock.left, warn=self.warn,
        )  # fmt: skip
        try:
            return gathering.gathered()
        except torch.OutOfMemoryError as error:
            raise DataError(
                "out of memory for a batch", where=model.name, remedy="a smaller --batch-size"
            ) from error
