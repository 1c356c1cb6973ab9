"""The examples that curvature is measured on, what a gradient on them takes, and what is spent."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch.nn import Module

from mergekit_geo.curvature.levels import GROUPS
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.objective import Objective, TaskObjective
from mergekit_geo.evaluation.split import in_selection_half
from mergekit_geo.evaluation.weighted_sets import WeightedSets
from mergekit_geo.processes import world
from mergekit_geo.progress import Progress

FEWEST_EXAMPLES = 8


@dataclass(frozen=True)
class CurvatureSample:
    """What sharpness is measured on.

    Attributes:
        measured: Examples of the report half, or all where it is too small.
        held_out: As many others; None where there are none.
    """

    measured: Objective
    held_out: Objective | None = None

    @property
    def count(self) -> int:
        """Examples; batches of a function of the caller's."""
        if isinstance(self.measured, TaskObjective | WeightedSets):
            return len(self.measured.kept)
        return len(self.measured.batches())


def make_sample(objective: Objective, most: int, seed: int) -> CurvatureSample:
    """Examples of the report half, in small batches; a function of the caller's as it is.

    Args:
        objective: All examples that there are.
        most: How many are taken.
        seed: Of the halves and of the sample.

    Raises:
        DataError: Too few examples.
    """
    if isinstance(objective, WeightedSets):
        return _of_sets(objective, most, seed)
    if not isinstance(objective, TaskObjective):
        return CurvatureSample(objective)
    other = [in_selection_half(objective.documents[e.document], seed) for e in objective.kept]
    report = [i for i, chosen in enumerate(other) if not chosen]
    selection = [i for i, chosen in enumerate(other) if chosen]
    if min(len(report), len(selection)) < FEWEST_EXAMPLES:
        return CurvatureSample(_drawn(objective, range(len(other)), most, seed))
    return CurvatureSample(
        _drawn(objective, report, most, seed), _drawn(objective, selection, most, seed)
    )


def _of_sets(objective: WeightedSets, most: int, seed: int) -> CurvatureSample:
    """Draw equally many examples of each set."""
    each = max(most // len(objective.parts), FEWEST_EXAMPLES)
    found = [make_sample(part, each, seed) for part in objective.parts]
    others = [one.held_out for one in found if one.held_out is not None]
    return CurvatureSample(
        objective.of([one.measured for one in found]),
        objective.of(others) if len(others) == len(found) else None,
    )


def _drawn(objective: TaskObjective, rows: Sequence[int], most: int, seed: int) -> TaskObjective:
    count = min(most, len(rows))
    if count < FEWEST_EXAMPLES:
        raise DataError(
            f"sharpness needs at least {FEWEST_EXAMPLES} examples, found {count}",
            remedy="give more data, or a larger --max-examples",
        )
    chosen = np.array(sorted(random.Random(seed).sample(rows, count)))
    size = min(objective.batch_size, math.ceil(count / GROUPS))
    return replace(objective.of(chosen), batch_size=size)


class Spent:
    """Counts the cost of a model's measures, and reports it to the progress.

    Args:
        progress: Told of it.
        title: Of the phase.
        most: Gradients of a batch that it takes at most.
    """

    def __init__(self, progress: Progress, title: str, most: float) -> None:
        self.progress, self.title, self.total = progress, title, int(most)
        self.batches, self._told = 0.0, 0

    def __call__(self, gradients: float) -> None:
        """Count gradients of a batch that were spent, and pass them to the progress."""
        if not self.batches:
            self.progress.phase(self.title, self.total)
        self.batches += gradients
        self.progress.advance(int(self.batches) - self._told)
        self._told = int(self.batches)


def seconds_each(objective: Objective, model: Module) -> float:
    """What one gradient of the sample will take, from a batch of typical length."""
    batches = objective.batches()
    middle = MeanLoss(model, batches[len(batches) // 2 :][:1])
    timings = []
    for _ in range(3):  # the first is slower, and what else the machine does is not of the model
        began = time.perf_counter()
        middle.gradient()
        timings.append(time.perf_counter() - began)
    return min(timings) * len(batches) / world()[1]
