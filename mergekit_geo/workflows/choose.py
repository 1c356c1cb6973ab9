"""Soups chosen by loss: on the selection half, before anything is merged."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.reports.schema import SelectionEntry
from mergekit_geo.workflows.choosing import Choosing

if TYPE_CHECKING:
    from torch import Tensor

    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.live.blend import InPlace
    from mergekit_geo.merging.blend import Blend
    from mergekit_geo.objectives.halves import Halves
    from mergekit_geo.objectives.objective import TaskObjective
    from mergekit_geo.progress import Progress
    from mergekit_geo.selection.learned import Weights
    from mergekit_geo.workflows.along import RouteTo
    from mergekit_geo.workflows.measuring import Ground
    from mergekit_geo.workflows.picking import Picked


@dataclass(frozen=True)
class Chosen:
    """What was chosen.

    Attributes:
        rule: Of the merge.
        rules: By tensor, where one has a rule of its own.
        entry: For the report.
        halves: What it was chosen on, and what remains to report on.
        bends: Anchors beside the models.
        legs: Of the paths that were taken, and the point of each.
    """

    rule: Rule
    rules: Mapping[str, Rule] = field(default_factory=dict)
    entry: SelectionEntry | None = None
    halves: Halves | None = None
    bends: tuple[Checkpoint, ...] = ()
    legs: tuple[Picked, ...] = ()


def choose(
    choosing: Choosing,
    weights: Sequence[float],
    ground: Ground,
    progress: Progress,
    seed: int,
    route_to: RouteTo | None = None,
) -> Chosen:
    """Choose a point by loss.

    Args:
        choosing: How.
        weights: Of the soup where nothing else is asked for.
        ground: Where losses are measured; its anchors are the models.
        progress: Told of steps.
        seed: Of the halves.
        route_to: Gives the path from a point to a model, where points of paths are sought.

    Raises:
        DataError: Too few documents for two halves.
    """
    halves = ground.halves(seed)
    first = ground.walk.at_model(0)
    documents = len(set(first.document[halves.selection].tolist()))
    if choosing.along is not None:
        return _along(choosing, ground, halves, seed, route_to, documents)
    search = _Search(choosing, weights, ground, halves, progress)
    members, left_out = search.members()
    rule, rules, method, text, steps = search.run(members)
    entry = SelectionEntry(
        method=method, chosen=text, documents=documents, steps=steps, left_out=left_out
    )
    return Chosen(rule, rules, entry, halves)


def _along(
    choosing: Choosing,
    ground: Ground,
    halves: Halves,
    seed: int,
    route_to: RouteTo | None,
    documents: int,
) -> Chosen:
    from mergekit_geo.workflows.along import along

    assert route_to is not None
    found = along(choosing, ground, halves, seed, route_to)
    entry = SelectionEntry(
        method=found.method,
        chosen=found.chosen,
        documents=documents,
        steps=found.steps,
        sharpness=found.sharpness,
    )
    return Chosen(found.point.rule, {}, entry, halves, found.point.bends, found.legs)


Found = tuple[Rule, Mapping[str, Rule], str, str, list[tuple[str, float]]]


@dataclass
class _Search:
    choosing: Choosing
    weights: Sequence[float]
    ground: Ground
    halves: Halves
    progress: Progress

    @property
    def names(self) -> list[str]:
        return [anchor.name for anchor in self.ground.walk.anchors]

    def members(self) -> tuple[list[int], list[str]]:
        """Models of the largest basin, and why the others are left out."""
        everyone = list(range(len(self.names)))
        if not self.choosing.basin:
            return everyone, []
        from mergekit_geo.connectivity.paths import path
        from mergekit_geo.workflows.barrier import basins_of, measure_pairs

        walk = self.ground.walk
        pairs = measure_pairs(walk, self.halves, (path("linear"),), points=5, most=5)
        losses = [walk.at_model(i).take(self.halves.selection).mean for i in everyone]
        largest = basins_of(walk, pairs, losses).largest
        left_out = [
            f"{self.names[i]}: a barrier parts it from {', '.join(self.names[j] for j in largest)}"
            for i in everyone
            if i not in largest
        ]
        return list(largest), left_out

    def run(self, members: list[int]) -> Found:
        choosing = self.choosing
        if choosing.method == "greedy":
            return self._greedy(members)
        if choosing.method == "learned":
            return self._learned(members)
        kept = [w if i in members else 0.0 for i, w in enumerate(self.weights)]
        if not sum(kept):
            raise ArgumentError("the weights of the largest basin sum to zero")
        rule = Linear(tuple(w / sum(kept) for w in kept))
        text = ", ".join(self.names[i] for i in members)
        return rule, {}, "largest basin", text, []

    def loss(self, title: str, blend: Blend, key: str) -> float:
        """On the selection half."""
        return self.ground.walk.at(title, blend, key).take(self.halves.selection).mean

    def _soup(self, members: Sequence[int]) -> Linear:
        count = len(self.names)
        return Linear(tuple(members.count(i) / len(members) for i in range(count)))

    def _blend(self, rule: Rule, rules: Mapping[str, Rule] = {}) -> Blend:
        from mergekit_geo.merging.blend import Blend

        return Blend(tuple(self.ground.walk.anchors), rule, rules=rules)

    def _title(self, members: Sequence[int]) -> str:
        return " + ".join(self.names[i] for i in members)

    def _greedy(self, members: Sequence[int]) -> Found:
        from mergekit_geo.selection.greedy import Members, greedy

        def loss_of(chosen: Members) -> float:
            soup = tuple(members[i] for i in chosen)
            return self.loss(
                self._title(soup), self._blend(self._soup(soup)), f"soup {sorted(soup)}"
            )

        walk, half = self.ground.walk, self.halves.selection
        singles = [walk.at_model(i).take(half).mean for i in members]
        found = greedy(singles, loss_of, with_replacement=self.choosing.with_replacement)
        soup = [members[i] for i in found.members]
        steps = [(self._title([members[i] for i in s.members]), s.loss) for s in found.steps]
        return self._soup(soup), {}, "greedy", self._title(soup), steps

    def _learned(self, members: Sequence[int]) -> Found:
        from mergekit_geo.live.blend import InPlace
        from mergekit_geo.objectives.objective import TaskObjective
        from mergekit_geo.selection.learned import learn, soup_of

        objective, live = self.ground.objective, self.ground.walk.live
        if not isinstance(objective, TaskObjective) or not isinstance(live, InPlace):
            raise DataError(
                "a learned soup needs gradients of a task, and a module whose tensors are those "
                "that are stored",
                remedy="--method greedy needs neither",
            )
        loss_of = _batch_loss(objective.of(self.halves.selection), live)
        start = self._blend(self._soup(members))
        inner = replace(start, anchors=tuple(start.anchors[i] for i in members))
        choosing = self.choosing
        self.progress.phase(f"learning a soup of {len(members)}", choosing.steps)
        found = learn(
            live,
            inner,
            loss_of,
            granularity=choosing.granularity,
            steps=choosing.steps,
            advance=self.progress.advance,
        )
        learned = soup_of(
            start, _of_all(found.weights, members, len(self.names)), choosing.granularity
        )
        uniform = self.loss("uniform soup", start, f"soup {sorted(members)}")
        after = self.loss("learned soup", learned, f"learned {choosing}")
        steps = [("uniform soup", uniform), ("learned soup", after)]
        if not after < uniform:
            return start.rule, {}, "learned", "the uniform soup: learning did not help", steps
        text = ", ".join(
            f"{name} {weight:.3f}"
            for name, weight in zip(self.names, learned.rule.weights, strict=True)
        )
        return learned.rule, learned.rules, f"learned by {choosing.granularity}", text, steps


def _batch_loss(part: TaskObjective, live: InPlace) -> Callable[[int], Tensor]:
    """The loss per token of the batch of a step, differentiable; long and short ones in turn."""
    pieces = part.pieces()
    random.Random(0).shuffle(pieces)

    def loss_of(step: int) -> Tensor:
        loss, weight = pieces[step % len(pieces)](live.model)
        return (loss @ weight) / weight.sum()

    return loss_of


def _of_all(weights: Weights, members: Sequence[int], count: int) -> Weights:
    """Coefficients of the members as coefficients of all models."""
    import numpy as np

    return {
        group: np.bincount(list(members), shares, minlength=count).astype(np.float64)
        for group, shares in weights.items()
    }
