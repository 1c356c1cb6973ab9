"""The weighted mean of the losses on several sets, as one objective."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mergekit_geo.evaluation.batches import weighed
from mergekit_geo.evaluation.objective import Objective, TaskObjective
from mergekit_geo.tasks.losses import Losses

if TYPE_CHECKING:
    from torch.nn import Module

    from mergekit_geo.evaluation.objective import Batch
    from mergekit_geo.evaluation.study import Study
    from mergekit_geo.tasks.task import Example


@dataclass(frozen=True)
class WeightedSets:
    """Examples of several sets, weighed so that each set has its share of the mean.

    Attributes:
        parts: The examples of each set.
        weights: What each set counts.
    """

    parts: tuple[TaskObjective, ...]
    weights: tuple[float, ...]

    @property
    def kept(self) -> list[Example]:
        """All examples, set by set."""
        return [example for part in self.parts for example in part.kept]

    @property
    def documents(self) -> list[str]:
        """Keys of all documents, set by set."""
        return [key for part in self.parts for key in part.documents]

    @property
    def cost(self) -> float:
        """Tokens (or examples) of one measurement."""
        return sum(part.cost for part in self.parts)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the examples of all sets, and of what each set counts."""
        told = [f"{part.digest} {w!r}" for part, w in zip(self.parts, self.weights, strict=True)]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()

    @cached_property
    def factors(self) -> list[float]:
        """What weights of each set's examples are multiplied by; their sum over all stays."""
        own = [sum(example.weight for example in part.kept) for part in self.parts]
        shares = [weight / sum(self.weights) for weight in self.weights]
        return [share * sum(own) / total for share, total in zip(shares, own, strict=True)]

    def measure(self, model: Module, advance: Callable[[int], None] = lambda units: None) -> Losses:
        """Loss of every example, set by set, without gradients."""
        found = [part.measure(model, advance) for part in self.parts]
        starts = np.cumsum([0, *(len(part.documents) for part in self.parts[:-1])])
        return Losses(
            np.concatenate([losses.loss for losses in found]),
            np.concatenate([x.weight * f for x, f in zip(found, self.factors, strict=True)]),
            np.concatenate([x.document + s for x, s in zip(found, starts, strict=True)]),
        )

    def batches(self) -> list[Batch]:
        """Each batch as a function of the model: losses and weights, (b,) each, differentiable."""
        pairs = zip(self.parts, self.factors, strict=True)
        return [batch for part, factor in pairs for batch in weighed(part.batches(), factor)]

    def of(self, parts: Sequence[Objective]) -> WeightedSets:
        """Copy with other examples of the same sets."""
        return replace(self, parts=tuple(one for one in parts if isinstance(one, TaskObjective)))


def on_weighted_mean(study: Study) -> Study | None:
    """The study of the weighted mean of all sets' losses; None where it means nothing.

    So it is with functions of the caller's, and with sets that count in unlike units.
    """
    objectives = [one.plan.objective for one in study.sets]
    tasks = [found for found in objectives if isinstance(found, TaskObjective)]
    units = {(found.task.unit, found.task.name) for found in tasks}
    if len(tasks) < len(study.sets) or len(units) > 1:
        return None
    joint = WeightedSets(tuple(tasks), tuple(one.weight for one in study.sets))
    samples = [one.sample for one in study.sets if one.sample is not None]
    available = sum(sample.available for sample in samples)
    sample = replace(samples[0], objective=joint, available=available)  # type: ignore[arg-type]
    plan = replace(study.plan, objective=joint, sample=sample)
    return replace(study, plan=plan, name="weighted mean", further=())
