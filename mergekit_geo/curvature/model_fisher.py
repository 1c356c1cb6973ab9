"""Computing the Fisher of a checkpoint within a budget, taken up where an earlier run stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psutil
import torch
from torch import Tensor
from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.clock import Clock
from mergekit_geo.config.measures import Compute
from mergekit_geo.curvature.fisher import SquaredGradients
from mergekit_geo.curvature.fisher_store import Facts, FisherStore, ModelFisher
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.objective import Objective, TaskObjective
from mergekit_geo.evaluation.statistic_cache import StatisticCache
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
        store = FisherStore.of(model, source, sample, self.settings, wide, self.warn)
        if (kept := store.kept()) is not None:
            self.progress.say(f"Fisher of {model.name}: kept by an earlier run")
            return kept
        objective: Objective = source.as_objective if sample is None else sample.objective
        work = _Work(self, model, objective, store.cache, source.seed)
        tensors, facts = work.run(at_least_single(open_module(model, wide)))
        require_unchanged([model])
        return store.keep(tensors, facts)


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

    def run(self, module: Module) -> tuple[dict[str, Tensor], Facts]:
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
        seconds = {} if start else {"seconds": round(time.monotonic() - began, 3)}
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
