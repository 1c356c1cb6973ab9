"""Models measured on the same examples, within a budget told in advance."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mergekit_geo.clock import clock_of
from mergekit_geo.config.measures import Compute
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.objective import Objective, TaskObjective
from mergekit_geo.processes import broadcast
from mergekit_geo.progress import Progress, Silent, expect
from mergekit_geo.tasks.losses import Indices, Losses

if TYPE_CHECKING:
    from torch.nn import Module


class Evaluator:
    """Measures one model after another on an objective.

    Args:
        objective: The examples.
        compute: The budget.
        evaluations: How many measurements are to come, for the estimate of the cost.
        seed: Of the sample where the budget asks for a smaller one.
        progress: Told of the cost and of each batch.
    """

    def __init__(
        self,
        objective: Objective,
        compute: Compute,
        *,
        evaluations: int,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.objective, self.compute, self.seed = objective, compute, seed
        self.evaluations, self.progress = evaluations, progress or Silent()
        self.part = "losses"
        self.warnings: list[str] = []
        self._fitted, self._done, self._each = False, 0, 0.0

    def measure(self, name: str, model: Module, examples: Indices | None = None) -> Losses:
        """Loss of a model on all examples, or on some.

        Raises:
            DataError: It is not a number.
        """
        self.fit(model)
        found = self.measure_any(name, model, examples)
        if not math.isfinite(found.mean):
            raise DataError("the loss is not a number", where=name)
        return found

    def measure_any(self, name: str, model: Module, examples: Indices | None = None) -> Losses:
        """Measure the losses of a model without checking that they are finite."""
        objective = self.objective
        if examples is not None and isinstance(objective, TaskObjective):
            objective = objective.of(examples)
        self.progress.phase(f"loss of {name}", int(objective.cost))
        began = time.perf_counter()
        with clock_of(self.compute.budget).running():
            found = objective.measure(model, self.progress.advance)
        self._correct(time.perf_counter() - began)
        if examples is None or objective is not self.objective:
            return found
        return found.take(examples)

    def on(self, rows: Indices, model: Module) -> Losses:
        """Losses of a model on some examples, told to nobody."""
        if isinstance(self.objective, TaskObjective):
            return self.objective.of(rows).measure(model)
        return self.objective.measure(model).take(rows)

    def _correct(self, seconds: float) -> None:
        """Expect of the measurements to come what those before have taken."""
        self._done += 1
        self._each += (seconds - self._each) / self._done
        left = max(self.evaluations - self._done, 0)
        expect(self.progress, self.part, self._each * left)

    @property
    def seconds_each(self) -> float:
        """Seconds that a measurement takes, as far as is known."""
        return self._each

    def fit(self, model: Module) -> None:
        """Time a batch, report the cost, and shrink the sample to the budget, once.

        Args:
            model: Any of those to come.
        """
        fit([self], model)

    def seconds(self, model: Module) -> float:
        """Estimate what all measurements take; 0 where the examples are settled already."""
        if self._fitted or not isinstance(self.objective, TaskObjective):
            return 0.0
        if (told := getattr(self.objective.task, "cost_of", None)) is not None:
            self.progress.say(told(self.objective.kept))
        left = broadcast(clock_of(self.compute.budget).left)
        plenty = left / max(self.evaluations, 1) / 8  # sets share the budget
        return _seconds_each(self.objective, model, plenty) * self.evaluations

    def settle(self, seconds: float, share: float) -> None:
        """Fix the number of examples, and report the cost.

        Args:
            seconds: Of all measurements of all examples.
            share: Of the examples that the budget holds.
        """
        assert isinstance(self.objective, TaskObjective), "nothing to settle"
        count = len(self.objective.kept)
        most = int(count * share) if share < 1 else count
        self.take(min(count, max(self.objective.batch_size, most)))
        expected = seconds * self.count / count
        self._each = expected / max(self.evaluations, 1)
        expect(self.progress, self.part, expected)
        self.progress.say(
            f"{self.evaluations} measurements on {self.count} examples: about {expected:.0f} s"
        )

    @property
    def count(self) -> int:
        """How many examples are measured; 0 where only the measurement tells."""
        return len(self.objective.kept) if isinstance(self.objective, TaskObjective) else 0

    def take(self, count: int) -> None:
        """Fix the number of examples, whatever the budget."""
        self._fitted = True
        if isinstance(self.objective, TaskObjective):
            self._shrink(self.objective, count)

    def _shrink(self, objective: TaskObjective, most: int) -> None:
        count = len(objective.kept)
        if most == count:
            return
        self.objective = objective.drawn(most, self.seed)
        self.warnings.append(
            f"measured on {self.count} of {count} examples to stay within "
            f"{self.compute.budget:g} minutes; --budget 0 measures all"
        )


def fit(evaluators: Sequence[Evaluator], model: Module) -> None:
    """Shrink the samples of evaluators to the budget that they share, each by the same factor.

    Args:
        evaluators: Of one model after another, each on examples of its own.
        model: Any of those to come.
    """
    each = [(one, one.seconds(model)) for one in evaluators]
    if not (total := sum(seconds for _, seconds in each)):
        return
    left = broadcast(clock_of(evaluators[0].compute.budget).left)
    for one, seconds in each:
        if seconds:
            one.settle(seconds, left / total)


def _seconds_each(objective: TaskObjective, model: Module, plenty: float) -> float:
    """Estimate the seconds of one measurement from one batch of typical length.

    Args:
        objective: What is measured.
        model: Any of those to come.
        plenty: Seconds with which nobody asks how exact the estimate is.
    """
    batches = objective.batch_rows()
    rows = batches[len(batches) // 2]
    objective.of(rows[:1]).measure(model)  # the first forward pass of a process is slower
    share = float(sum(objective.kept[i].size for i in rows) / objective.cost)
    found = _seconds(objective.of(rows), model) / share
    if found < plenty:
        return found
    return min(found, _seconds(objective.of(rows), model) / share)  # the machine may do much else


def _seconds(objective: TaskObjective, model: Module) -> float:
    """Seconds of one measurement, which all processes share."""
    began = time.perf_counter()
    objective.measure(model)
    return float(broadcast(time.perf_counter() - began))
