"""A learned soup: the points on the way from where it starts, measured as they would be written.

The gradient sees one batch at a time, and only what lies downhill from there: it is not trusted to
end anywhere better than it began.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import Module

from mergekit_geo.config.aim import WORST
from mergekit_geo.config.selection import LOOKS, SelectionConfig
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.aim import Aim
from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.merging.blend import Blend
from mergekit_geo.modules.blend import InPlace
from mergekit_geo.records.findings import limit_of
from mergekit_geo.selection.learned import Descent, Simplex, TensorWeights, learn, soup_of
from mergekit_geo.tasks.losses import Indices

RATE = 0.01
"""Rate at which the sets' weights change, for each 2 % of a loss above the best parent."""

LossesOf = Callable[[int], Iterable[Tensor]]
"""Differentiable losses of a step."""


@dataclass(frozen=True)
class Candidate:
    """A point, and what it counts on the selection halves."""

    point: Point
    loss: float


def best_of(points: Sequence[Candidate]) -> Candidate:
    """The lowest loss, of equal ones the first; one that is no number is the highest."""
    return min(points, key=lambda found: found.loss if math.isfinite(found.loss) else math.inf)


def differentiable(aim: Aim) -> tuple[InPlace, LossesOf]:
    """The module, and its differentiable losses on a step's batches of the selection halves.

    Raises:
        DataError: Gradients are not available.
    """
    live, objectives = aim.evaluator.live, [one.objective for one in aim.evaluator.every]
    tasks = [found for found in objectives if isinstance(found, TaskObjective)]
    if len(tasks) < len(objectives) or not isinstance(live, InPlace):
        raise DataError(
            "a learned soup needs gradients of a task, and a module whose tensors are those "
            "that are stored",
            remedy="--method greedy needs neither",
        )
    return live, SteppedLosses(aim, live.model)


def learned_from(
    start: Point,
    members: Sequence[int],
    config: SelectionConfig,
    gradient: tuple[InPlace, LossesOf],
    evaluator: PointEvaluator,
    loss_of: Callable[[Point], float],
) -> list[Candidate]:
    """Points on the way of a learned soup, the last of them its end.

    Args:
        start: A soup of all models, with the weights that it starts from.
        members: Models that take part.
        config: How.
        gradient: From `differentiable`.
        evaluator: Holds all models; its progress is told of steps.
        loss_of: What a point counts on the selection halves.
    """
    found: list[Candidate] = []
    if len(members) == 1:
        return found
    blend, progress = start.blend(evaluator.anchors), evaluator.study.progress

    def look(step: int, weights: TensorWeights) -> None:
        everyone = _of_all(weights, members, len(blend.anchors))
        soup = soup_of(blend, everyone, config.granularity)
        shares = {group: found.tolist() for group, found in everyone.items()}
        point = Point(
            soup.rule, f"learned soup, step {step}", f"learned {shares}", rules=soup.rules
        )
        point = point.stored_as(start.dtype)
        found.append(Candidate(point, loss_of(point)))

    progress.phase(f"learning a soup of {len(members)}", config.steps)
    learn(
        gradient[0],
        Blend(tuple(blend.anchors[i] for i in members), start.rule),
        gradient[1],
        Descent(
            granularity=config.granularity,
            space=Simplex([start.rule.weights[i] for i in members]),
            steps=config.steps,
            every=math.ceil(config.steps / LOOKS),
        ),
        advance=progress.advance,
        look=look,
    )
    return found


class SteppedLosses:
    """Losses of a model on a batch of every set, each times what the set counts at this step.

    Over several sets the worst is sought by exponentiated weights: those on which the model is
    further above the best parent count more from step to step (Sagawa 2020, algorithm 1).

    Args:
        aim: How sets become one number.
        model: In training of its soup's coefficients.
    """

    def __init__(self, aim: Aim, model: Module) -> None:
        self.aim, self.model = aim, model
        self.batches = [_shuffled(one) for one in aim.evaluator.every]
        self.shares = np.array(aim.weights)
        self.best = [] if aim.is_loss else [one.best for one in aim.evaluator.every]

    def __call__(self, step: int) -> Iterator[Tensor]:
        """One loss a set, in nats per token or as shares of the best parent's."""
        rises = np.zeros(len(self.batches))
        sets = zip(self.aim.evaluator.every, self.batches, self.aim.scales, strict=True)
        for i, (one, batches, scale) in enumerate(sets):
            rows = batches[step % len(batches)]
            losses, weights = one.objective.batch(rows, self.model)  # type: ignore[attr-defined]
            mean = (losses @ weights) / weights.sum()
            if not self.aim.is_loss:
                best = self.best[i].take(rows).mean
                rises[i] = (float(mean.detach()) - best) / limit_of(best)
            yield mean * (float(self.shares[i]) / scale)
        if self.aim.config.aim == WORST:
            self.shares = self.shares * np.exp(RATE * (rises - rises.max()))
            self.shares /= self.shares.sum()


def _shuffled(evaluator: PointEvaluator) -> list[Indices]:
    """Batches of the selection half as rows of all examples; long and short ones in turn."""
    rows = evaluator.split.selection
    assert isinstance(evaluator.objective, TaskObjective)
    batches = [rows[part] for part in evaluator.objective.of(rows).batch_rows()]
    random.Random(0).shuffle(batches)
    return batches


def _of_all(weights: TensorWeights, members: Sequence[int], count: int) -> TensorWeights:
    """Coefficients of the members as coefficients of all models."""
    return {
        group: np.bincount(list(members), shares, minlength=count).astype(np.float64)
        for group, shares in weights.items()
    }
