"""AdaMerging: coefficients of task vectors that make predictions certain (Yang 2024, eq. 6 to 8).

Each tensor of the output is b + sum_i l_i v_i. The l_i, one for each model and tensor, minimise the
sum over the sources of data of the mean entropy of predictions, by Adam; they are clamped to
[0, 1]. As in the published code a coefficient that has left [0, 1] has no gradient and stays there,
and what is taken is where the last step ends. That code sums the means of two batches of 16 of each
source; one batch of 32 has half that gradient, and Adam takes the same steps.

Shapes: g groups of tensors, k anchors: the base, then the models.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from mergekit_geo.errors import DataError, UnsupportedError
from mergekit_geo.evaluation.objective import Objective, TaskObjective
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.evaluation.study import Study
from mergekit_geo.evaluation.training_sample import input_key, unlabelled_sample, without_inputs
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.blend import Blend
from mergekit_geo.merging.by_entropy import NAME, ByEntropy
from mergekit_geo.merging.gram import layer_of
from mergekit_geo.modules.blend import InPlace, in_place
from mergekit_geo.modules.held import hold
from mergekit_geo.modules.open import open_live
from mergekit_geo.records.entropy import EntropyEntry, EntropySource, TaskCoefficients
from mergekit_geo.selection.by_entropy import BySmallestEntropy
from mergekit_geo.selection.learned import Descent, TensorWeights, learn, soup_of
from mergekit_geo.selection.selector import Selected, study_names
from mergekit_geo.tasks.entropy import classifier, softmax_entropy
from mergekit_geo.tasks.losses import Indices

BATCH = 32
"""Examples of a source at a step."""
SELECTION = "selection"


@dataclass(frozen=True)
class TaskBox:
    """Coefficients of task vectors, clamped to [0, 1]; the base gets the rest to one.

    Attributes:
        start: Of every task vector.

    Example:
        >>> TaskBox().coefficients(torch.tensor([[0.25, 1.5]])).tolist()
        [[-0.25, 0.25, 1.0]]
    """

    start: float = 0.3

    def free(self, count: int) -> Tensor:
        """One of each task vector, before it is clamped."""
        return torch.full((count - 1,), self.start, dtype=torch.float64)

    def coefficients(self, free_gn: Tensor) -> Tensor:
        """Coefficients of the base and the models: (g, k)."""
        clamped = free_gn.clamp(0, 1)
        return torch.cat([1 - clamped.sum(dim=1, keepdim=True), clamped], dim=1)


@dataclass(frozen=True)
class Unlabelled:
    """Examples of one source, whose labels are not looked at.

    Attributes:
        name: Of the source.
        objective: The examples.
        half: `selection` where they are that half of an evaluation set.
        left_out: Examples that are not among them because losses are reported on them.
        size: Of a batch.
        seed: Of the order in which they are seen.
    """

    name: str
    objective: TaskObjective
    half: str = ""
    left_out: int = 0
    size: int = BATCH
    seed: int = 0

    def batches(self) -> Iterator[Indices]:
        """Batches without end: all examples in a new order, again and again."""
        draw, rows = random.Random(self.seed), list(range(len(self.objective.kept)))
        size = min(self.size, len(rows))
        while True:
            draw.shuffle(rows)
            for start in range(0, len(rows) - size + 1, size):
                yield np.array(rows[start : start + size])

    def entropies(self, model: Module, rows: Indices) -> Tensor:
        """Entropy of each prediction in nats, differentiable where gradients are on."""
        task, kept = classifier(self.objective.task), self.objective.kept
        batch = self.objective.task.batch([kept[i] for i in rows])
        device = next(model.parameters()).device
        return softmax_entropy(task.logits(model, {n: t.to(device) for n, t in batch.items()}))

    @torch.no_grad()
    def mean(self, model: Module) -> float:
        """Mean entropy over all predictions."""
        found = [self.entropies(model, rows) for rows in self.objective.batch_rows()]
        return float(torch.cat(found).double().mean())


def adamerged(
    selector: BySmallestEntropy, study: Study, further: int
) -> tuple[Selected, PointEvaluator | None]:
    """The point whose predictions are most certain.

    Args:
        selector: Where the search starts, and on what data.
        study: The models, the base first.
        further: Number of measurements to come.

    Raises:
        UnsupportedError: Predictions have no entropy, or gradients are not available.
        DataError: There is no data, or all of it is what losses are reported on.
    """
    rule = selector.rule
    assert isinstance(rule, ByEntropy)
    evaluator = None
    if selector.sources:
        data = _stated(selector, study)
    else:
        for one in study.sets:
            _classifying(one.plan.objective, one.name)
        evaluator = PointEvaluator.open(study, further, refresh_models=False)
        data = [_half(one) for one in evaluator.every]
    live, blend = _module(study, evaluator, Linear(rule.weights))
    weights, entry = _search(live, blend, data, rule, study)
    point = _point(blend, weights, rule, study_names(study))
    split = None if evaluator is None else evaluator.split
    return Selected(point, split=split, entropy=entry), evaluator


def _search(
    live: InPlace, blend: Blend, data: Sequence[Unlabelled], rule: ByEntropy, study: Study
) -> tuple[TensorWeights, EntropyEntry]:
    """The coefficients, and what is reported of them."""
    how = Descent(
        rule.granularity, TaskBox(rule.start), rule.steps, rule.learning_rate, every=rule.steps
    )
    live.put(blend)
    before = [one.mean(live.model) for one in data]
    study.progress.phase("minimising the entropy of predictions", rule.steps)
    losses = Entropies(data, live.model)
    weights = learn(live, blend, losses, how, advance=study.progress.advance).weights
    live.put(soup_of(blend, weights, rule.granularity))
    after = [one.mean(live.model) for one in data]
    return weights, _entry(data, before, after, weights, blend, rule)


class Entropies:
    """Mean entropies of a model's predictions on a batch of every source.

    Args:
        data: The sources.
        model: In training of its coefficients.
    """

    def __init__(self, data: Sequence[Unlabelled], model: Module) -> None:
        self.data, self.model = data, model
        self.batches = [one.batches() for one in data]

    def __call__(self, step: int) -> Iterator[Tensor]:
        """One mean a source."""
        for one, batches in zip(self.data, self.batches, strict=True):
            yield one.entropies(self.model, next(batches)).mean()


def _half(one: PointEvaluator) -> Unlabelled:
    """The selection half of a set that is measured on."""
    objective = _classifying(one.objective, one.study.name)
    own = objective.of(one.split.selection)
    return Unlabelled(one.study.name, own, SELECTION, seed=one.study.seed)


def _classifying(objective: Objective | None, name: str) -> TaskObjective:
    """The objective of a task that gives classes.

    Raises:
        UnsupportedError: It does not.
    """
    if not isinstance(objective, TaskObjective):
        raise UnsupportedError(
            "a function gives losses, and no predictions that have an entropy",
            where=name,
            remedy="give data: --train-data SOURCE",
        )
    classifier(objective.task, name)
    return objective


def _stated(selector: BySmallestEntropy, study: Study) -> list[Unlabelled]:
    """The sources that were named, without the examples that losses are reported on."""
    reported = [one.plan.objective for one in study.sets]
    known = {
        input_key(example)
        for one in reported
        if isinstance(one, TaskObjective)
        for example in one.kept
    }
    found = []
    for source in selector.sources:
        sample = unlabelled_sample(source, study.anchors[0], study.compute)
        settings = source.as_settings
        assert settings is not None
        kept = without_inputs(sample.objective, known)
        if not kept.kept:
            raise DataError(
                "losses are reported on all of this data, which may not find coefficients too",
                where=settings.origin,
                remedy="leave --train-data out: half of --data finds them, the other half reports",
            )
        left_out = len(sample.objective.kept) - len(kept.kept)
        size = settings.batch_size or BATCH
        found.append(Unlabelled(settings.origin, kept, "", left_out, size, source.seed))
    return found


def _module(study: Study, evaluator: PointEvaluator | None, start: Linear) -> tuple[InPlace, Blend]:
    """A module that goes where coefficients lead, and the models that it goes between."""
    anchors = hold(study.anchors, study.compute.anchors_in_memory)
    first = Blend(tuple(anchors), start)
    live = evaluator.live if evaluator else open_live(first, study.compute, anchors)
    why, remedy = "coefficients are found by gradients", "task_arithmetic needs no gradients"
    return in_place(live, why, study.anchors[0].name, remedy), first


def _point(blend: Blend, weights: TensorWeights, rule: ByEntropy, names: Sequence[str]) -> Point:
    """The point of the coefficients, as it is merged."""
    found = soup_of(blend, weights, rule.granularity)
    shares = {group: one.tolist() for group, one in weights.items()}
    return Point(
        _named(found.rule), f"{NAME} of {', '.join(names)}", f"{NAME} {shares}",
        rules={name: _named(one) for name, one in found.rules.items()},
    )  # fmt: skip


def _named(rule: Rule) -> Rule:
    return Linear(rule.weights, NAME, NAME)


def _entry(
    data: Sequence[Unlabelled],
    before: Sequence[float],
    after: Sequence[float],
    weights: TensorWeights,
    blend: Blend,
    rule: ByEntropy,
) -> EntropyEntry:
    sources = [
        EntropySource(
            source=one.name, half=one.half, examples=len(one.objective.kept),
            left_out=one.left_out, before=first, after=last,
        )
        for one, first, last in zip(data, before, after, strict=True)
    ]  # fmt: skip
    return EntropyEntry(
        sources=sources, classes=classifier(data[0].objective.task).labels.count,
        granularity=rule.granularity, start=rule.start, steps=rule.steps,
        learning_rate=rule.learning_rate,
        models=[
            _coefficients(anchor.name, i, weights, list(blend.donor.tensors))
            for i, anchor in enumerate(blend.anchors)
            if i
        ],
    )  # fmt: skip


def _coefficients(
    model: str, place: int, weights: TensorWeights, order: Sequence[str]
) -> TaskCoefficients:
    groups = [name for name in order if name in weights] or list(weights)
    values = {group: float(weights[group][place]) for group in groups}
    layers: dict[str, list[float]] = {}
    for group, value in values.items():
        layers.setdefault(layer_of(group) if group else "all", []).append(value)
    return TaskCoefficients(
        model=model, mean=float(np.mean([*values.values()])), least=min(values.values()),
        largest=max(values.values()),
        layers={layer: float(np.mean(own)) for layer, own in layers.items()},
    )  # fmt: skip
