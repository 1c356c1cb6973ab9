"""A learned soup: the points on the way from where it starts, measured as they would be written.

The gradient sees one batch at a time, and only what lies downhill from there: it is not trusted to
end anywhere better than it began.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mergekit_geo.config.selection import LOOKS, SelectionConfig
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.merging.blend import Blend
from mergekit_geo.modules.blend import InPlace
from mergekit_geo.selection.learned import Descent, TensorWeights, learn, soup_of


@dataclass(frozen=True)
class Candidate:
    """A point, and its loss on the selection half."""

    point: Point
    loss: float


def best_of(points: Sequence[Candidate]) -> Candidate:
    """The lowest loss, of equal ones the first; one that is no number is the highest."""
    return min(points, key=lambda found: found.loss if math.isfinite(found.loss) else math.inf)


def differentiable(evaluator: PointEvaluator) -> tuple[InPlace, Callable[[int], Tensor]]:
    """The module, and its differentiable loss on a step's batch of the selection half.

    Raises:
        DataError: Gradients are not available.
    """
    objective, live = evaluator.objective, evaluator.live
    if not isinstance(objective, TaskObjective) or not isinstance(live, InPlace):
        raise DataError(
            "a learned soup needs gradients of a task, and a module whose tensors are those "
            "that are stored",
            remedy="--method greedy needs neither",
        )
    return live, _batch_loss(objective.of(evaluator.split.selection), live)


def learned_from(
    start: Point,
    members: Sequence[int],
    config: SelectionConfig,
    gradient: tuple[InPlace, Callable[[int], Tensor]],
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
        loss_of: Loss of a point on the selection half.
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
            start=[start.rule.weights[i] for i in members],
            steps=config.steps,
            every=math.ceil(config.steps / LOOKS),
        ),
        advance=progress.advance,
        look=look,
    )
    return found


def _batch_loss(part: TaskObjective, live: InPlace) -> Callable[[int], Tensor]:
    """The loss per token of the batch of a step, differentiable; long and short ones in turn."""
    batches = part.batches()
    random.Random(0).shuffle(batches)

    def loss_of(step: int) -> Tensor:
        loss, weight = batches[step % len(batches)](live.model)
        return (loss @ weight) / weight.sum()

    return loss_of


def _of_all(weights: TensorWeights, members: Sequence[int], count: int) -> TensorWeights:
    """Coefficients of the members as coefficients of all models."""
    return {
        group: np.bincount(list(members), shares, minlength=count).astype(np.float64)
        for group, shares in weights.items()
    }
