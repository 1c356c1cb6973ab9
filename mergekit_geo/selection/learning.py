"""A learned soup: the points on the way from where it starts, measured as they would be written.

The gradient sees one batch at a time, and only what lies downhill from there: it is not trusted to
end anywhere better than it began.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergekit_geo.config.selection import LOOKS
from mergekit_geo.errors import DataError
from mergekit_geo.merging.blend import Blend

if TYPE_CHECKING:
    from torch import Tensor

    from mergekit_geo.config.selection import SelectionConfig
    from mergekit_geo.evaluation.objective import TaskObjective
    from mergekit_geo.evaluation.points import PointEvaluator
    from mergekit_geo.modules.blend import InPlace
    from mergekit_geo.progress import Progress
    from mergekit_geo.selection.learned import TensorWeights


@dataclass(frozen=True)
class Seen:
    """A point that was measured.

    Attributes:
        title: What it is.
        blend: The point.
        loss: On the selection half.
    """

    title: str
    blend: Blend
    loss: float


def best_seen(points: Sequence[Seen]) -> Seen:
    """The lowest loss, of equal ones the first; one that is no number is the highest."""
    return min(points, key=lambda point: point.loss if math.isfinite(point.loss) else math.inf)


def differentiable(evaluator: PointEvaluator) -> tuple[InPlace, Callable[[int], Tensor]]:
    """The module, and its differentiable loss on a step's batch of the selection half.

    Raises:
        DataError: Gradients are not available.
    """
    from mergekit_geo.evaluation.objective import TaskObjective
    from mergekit_geo.modules.blend import InPlace

    objective, live = evaluator.objective, evaluator.live
    if not isinstance(objective, TaskObjective) or not isinstance(live, InPlace):
        raise DataError(
            "a learned soup needs gradients of a task, and a module whose tensors are those "
            "that are stored",
            remedy="--method greedy needs neither",
        )
    return live, _batch_loss(objective.of(evaluator.split.selection), live)


def learned_from(
    start: Blend,
    members: Sequence[int],
    choosing: SelectionConfig,
    gradient: tuple[InPlace, Callable[[int], Tensor]],
    measure: Callable[[str, Blend, str], float],
    progress: Progress,
) -> list[Seen]:
    """Points on the way of a learned soup, the last of them its end.

    Args:
        start: A soup of all models, with the weights that it starts from.
        members: Models that take part.
        choosing: How.
        gradient: From `differentiable`.
        measure: Loss on the selection half of a blend with a title and a key.
        progress: Told of steps.
    """
    from mergekit_geo.selection.learned import Descent, learn, soup_of

    seen: list[Seen] = []
    if len(members) == 1:
        return seen

    def look(step: int, weights: TensorWeights) -> None:
        everyone = _of_all(weights, members, len(start.anchors))
        blend, title = soup_of(start, everyone, choosing.granularity), f"learned soup, step {step}"
        shares = {group: found.tolist() for group, found in everyone.items()}
        seen.append(Seen(title, blend, measure(title, blend, f"learned {shares}")))

    progress.phase(f"learning a soup of {len(members)}", choosing.steps)
    learn(
        gradient[0],
        Blend(tuple(start.anchors[i] for i in members), start.rule),
        gradient[1],
        Descent(
            granularity=choosing.granularity,
            start=[start.rule.weights[i] for i in members],
            steps=choosing.steps,
            every=math.ceil(choosing.steps / LOOKS),
        ),
        advance=progress.advance,
        look=look,
    )
    return seen


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
    import numpy as np

    return {
        group: np.bincount(list(members), shares, minlength=count).astype(np.float64)
        for group, shares in weights.items()
    }
