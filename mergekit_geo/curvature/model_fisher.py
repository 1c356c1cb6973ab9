"""The Fisher of a checkpoint on its training data, kept in the user's cache and resumed there."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psutil
import torch
from torch import Tensor
from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.content import model_key
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.checkpoints.tensor_file import open_tensors
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.clock import Clock
from mergekit_geo.config.measures import Compute
from mergekit_geo.curvature.fisher import SquaredGradients
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.cache_key import cache_key
from mergekit_geo.evaluation.objective import Objective, TaskObjective
from mergekit_geo.evaluation.sample import Sample
from mergekit_geo.evaluation.statistic_cache import KeptStatistics, StatisticCache
from mergekit_geo.evaluation.training_sample import training_sample
from mergekit_geo.merging.blend import has_statistics
from mergekit_geo.merging.weighed import FisherSettings
from mergekit_geo.modules.open import at_least_single, open_module
from mergekit_geo.modules.stored import Stored
from mergekit_geo.printable import in_gigabytes
from mergekit_geo.progress import Progress, expect

if TYPE_CHECKING:
    from mergekit_geo.config.sets import DataSource

FEWEST = 8
"""Examples that a budget has to hold, where the data holds so many."""

TIMED = 3
"""Examples by which the time of all is told; the first is not typical."""

KEEP_EVERY = 60.0
"""Seconds between two states that are kept."""

MOST_KEEPING = 0.05
"""Share of the time that goes into keeping states, at most."""


@dataclass(frozen=True)
class ModelFisher:
    """The diagonal Fisher of a model, and what it is an estimate from.

    Attributes:
        tensors: float32, under the model's tensor names.
        key: Changes when the tensors do.
        digest: SHA-256 of the documents of its data; empty for a function of the caller's.
        documents: How many the examples are from.
        examples: How many squared gradients it is the mean of.
        available: How many examples there were.
        reused: Whether an earlier run computed it.
        seconds: What it took; None where one run was stopped and another went on.
    """

    tensors: Checkpoint
    key: str
    digest: str
    documents: int
    examples: int
    available: int
    reused: bool
    seconds: float | None


@dataclass(frozen=True)
class FisherRun:
    """Computes Fishers of models, or finds them.

    Attributes:
        settings: What they are estimates from.
        compute: How models are run.
        clock: The time that may be spent.
        progress: Told what is going on.
        warn: Told what the user should know.
        keep_every: Seconds between two states that are kept.
    """

    settings: FisherSettings
    compute: Compute
    clock: Clock
    progress: Progress
    warn: Callable[[str], None]
    keep_every: float = KEEP_EVERY

    def of(self, model: Checkpoint, source: DataSource) -> ModelFisher:
        """The Fisher of a model on its data.

        Args:
            model: Its data is here; under the tensor names that the Fisher is to have.
            source: The data.

        Raises:
            DataError: The data is unusable, labels are to be drawn and cannot be, or the budget or
                memory does not hold it; or a Fisher that is kept is of something else.
            UnsupportedError: The module's tensors are not those that are stored.
        """
        wide = replace(self.compute, dtype="float32")
        sample = training_sample(source, model, wide)
        objective: Objective = source.as_objective if sample is None else sample.objective
        cache = _cache(self, model, source, sample)
        origin = {} if sample is None else _origin(model, sample, self.settings)
        kept = None if cache is None else cache.kept(origin)
        if kept is not None:
            found = _read(kept, model, sample, reused=True)
            self.progress.say(f"Fisher of {model.name}: kept by an earlier run")
            return found
        work = _Work(self, model, objective, cache, source.seed)
        tensors, facts = work.run(at_least_single(open_module(model, wide)))
        require_unchanged([model])
        kept = None if cache is None else cache.keep(tensors, origin, facts)
        if kept is not None:
            return _read(kept, model, sample, reused=False)
        return _in_memory(tensors, facts, model, sample)


class _Work:
    """A Fisher under way."""

    def __init__(
        self,
        run: FisherRun,
        model: Checkpoint,
        objective: Objective,
        cache: StatisticCache | None,
        seed: int,
    ) -> None:
        self.how, self.model, self.objective, self.cache = run, model, objective, cache
        self.seed, self.examples = seed, 0
        self._kept_at, self._cost = time.monotonic(), 0.0

    def run(self, module: Module) -> tuple[dict[str, Tensor], dict[str, float | int | str]]:
        """The Fisher by stored names, and what is noted of it."""
        how, began = self.how, time.monotonic()
        stored = Stored(module, self.model)
        squares = SquaredGradients.of(
            module, self.objective, empirical=how.settings.empirical, most=how.settings.examples,
            seed=self.seed,
        )  # fmt: skip
        _require_memory(squares)
        start = self._resume(squares)
        how.progress.phase(f"Fisher of {self.model.name}", squares.count)
        how.progress.advance(start)
        count = self._settled(squares, start)
        self._add(squares, start or min(TIMED, count), count)
        found = _stored(stored, module, squares.mean(self.examples), self.model)
        seconds: dict[str, float | int | str] = {}
        if not start:
            seconds = {"seconds": round(time.monotonic() - began, 3)}
        return found, {"examples": self.examples, "documents": self._documents(squares, count),
                       "available": self._available(squares), **seconds}  # fmt: skip

    def _settled(self, squares: SquaredGradients, start: int) -> int:
        """How many examples are gone through: all, or those that the time left holds."""
        most = squares.count
        known = None if self.cache is None else self.cache.settled(most)
        if start:
            return known or most
        each = self._timed(squares, known or most)
        count, left = known or most, self.how.clock.left
        if known is None and each * (most - TIMED) > left:
            count = TIMED + int(left / each)
            if count < min(FEWEST, most):
                raise DataError(
                    f"the Fisher of {self.model.name} on {most} examples would take "
                    f"{each * most / 60:.1f} minutes, and {left / 60:.1f} are left",
                    remedy="--budget 0 sets no limit; or fewer --fisher-examples",
                )
            self.how.warn(
                f"the Fisher of {self.model.name} is estimated on {count} of {most} examples to "
                "stay within the budget; --budget 0 takes all"
            )
        if self.cache is not None:
            self.cache.settle(count)
        expect(self.how.progress, f"Fisher of {self.model.name}", each * (count - TIMED))
        return count

    def _timed(self, squares: SquaredGradients, count: int) -> float:
        """Go through the first examples; seconds of each but the first."""
        moments = [time.monotonic()]
        for place in range(min(TIMED, count)):
            self._add(squares, place, place + 1)
            moments.append(time.monotonic())
        return (moments[-1] - moments[1]) / max(len(moments) - 2, 1)

    def _add(self, squares: SquaredGradients, start: int, stop: int) -> None:
        def done(place: int) -> None:
            self.how.progress.advance(1)
            self._keep(squares, place)

        self.examples += squares.add(start, stop, done)

    def _resume(self, squares: SquaredGradients) -> int:
        """Take up what an earlier run has kept; returns how many examples are in it."""
        found = None if self.cache is None else self.cache.partial()
        if found is None:
            return 0
        tensors, done = found
        shapes = [{n: t.shape for n, t in each.items()} for each in (tensors, squares.sums)]
        if shapes[0] != shapes[1]:
            return 0
        for name, tensor in tensors.items():
            squares.sums[name].copy_(tensor)
        self.examples = done
        self.how.progress.say(f"Fisher of {self.model.name}: {done} examples are in it already")
        return done

    def _keep(self, squares: SquaredGradients, place: int) -> None:
        """Keep the sums from time to time."""
        now = time.monotonic()
        if self.cache is None or now - self._kept_at < max(
            self.how.keep_every, self._cost / MOST_KEEPING
        ):
            return
        self.cache.keep_partial({n: t.cpu() for n, t in squares.sums.items()}, place)
        self._kept_at = time.monotonic()
        self._cost = self._kept_at - now

    def _documents(self, squares: SquaredGradients, count: int) -> int:
        if not isinstance(self.objective, TaskObjective) or squares.examples is None:
            return self.examples
        kept = self.objective.kept
        return len({kept[one.row].document for one in squares.examples[:count]})

    def _available(self, squares: SquaredGradients) -> int:
        if isinstance(self.objective, TaskObjective):
            return len(self.objective.kept)
        return self.examples


def _require_memory(squares: SquaredGradients) -> None:
    """Refuse gradients that do not fit beside the sums, which are there already."""
    needed = sum(one.nbytes for one in squares.sums.values() if one.device.type == "cpu")
    free = psutil.virtual_memory().available
    if needed > free:
        raise DataError(
            f"gradients need {in_gigabytes(needed)} of memory beside the model and its Fisher, and "
            f"{in_gigabytes(free)} are free",
            remedy="merge on a larger machine",
        )


def _stored(
    stored: Stored, module: Module, found: dict[str, Tensor], model: Checkpoint
) -> dict[str, Tensor]:
    """A diagonal by the checkpoint's names; without what is no parameter.

    Raises:
        DataError: It is not finite.
    """
    own = {id(p): found[name] for name, p in module.named_parameters() if name in found}
    parameters = dict(module.named_parameters(remove_duplicate=False))
    every = {
        name: own.get(id(parameters.get(name)), torch.zeros_like(tensor))
        for name, tensor in module.state_dict().items()
    }
    state = stored.state(every, as_stored=False)
    taken = {
        name: tensor.float()
        for name, tensor in state.items()
        if model.tensors[name].is_float and not has_statistics([name])
    }
    for name, tensor in taken.items():
        if not torch.isfinite(tensor).all():
            raise DataError("the Fisher is not finite", where=f"{model.name}, tensor {name}")
    return taken


def _cache(
    run: FisherRun, model: Checkpoint, source: DataSource, sample: Sample | None
) -> StatisticCache | None:
    """Where the Fisher is kept; None where changes of model or data cannot be detected.

    It does not depend on the batch size, nor on what the data is called.
    """
    if sample is None or model.folder is None:
        return None
    single = replace(sample, objective=replace(sample.objective, batch_size=1))
    data, wide = source.replaced(batch_size=None, source=""), replace(run.compute, dtype="float32")
    names = hashlib.sha256("\n".join(model.tensors).encode()).hexdigest()
    settings = [run.settings.examples, run.settings.labels, names]
    return StatisticCache(cache_key([model], single, data, wide, "fisher", *settings), run.warn)


def _origin(model: Checkpoint, sample: Sample, settings: FisherSettings) -> dict[str, str]:
    key = json.dumps(model_key(model), sort_keys=True, default=repr)
    return {
        "model": hashlib.sha256(key.encode()).hexdigest()[:16],
        "data": sample.digest[:16],
        "examples": str(settings.examples),
        "labels": settings.labels,
    }


def _read(
    kept: KeptStatistics, model: Checkpoint, sample: Sample | None, *, reused: bool
) -> ModelFisher:
    tensors = open_tensors(kept.path, f"Fisher of {model.name}")
    return _found(tensors, kept.digest, kept.facts, sample, reused=reused)


def _in_memory(
    tensors: dict[str, Tensor],
    facts: dict[str, float | int | str],
    model: Checkpoint,
    sample: Sample | None,
) -> ModelFisher:
    total = hashlib.sha256()
    for name, tensor in tensors.items():
        total.update(name.encode() + tensor.contiguous().numpy().tobytes())
    checkpoint = of_state(tensors, f"Fisher of {model.name}")
    return _found(checkpoint, total.hexdigest(), facts, sample, reused=False)


def _found(
    tensors: Checkpoint,
    key: str,
    facts: dict[str, float | int | str],
    sample: Sample | None,
    *,
    reused: bool,
) -> ModelFisher:
    seconds = facts.get("seconds")
    return ModelFisher(
        tensors, key, "" if sample is None else sample.digest, int(facts["documents"]),
        int(facts["examples"]), int(facts["available"]), reused,
        None if seconds is None else float(seconds),
    )  # fmt: skip
