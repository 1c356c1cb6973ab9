"""Soups chosen by loss: on the selection half, before anything is merged."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.merging.groups import GRANULARITIES
from mergekit_geo.reports.schema import SelectionEntry

if TYPE_CHECKING:
    from torch import Tensor

    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.connectivity.paths import Route
    from mergekit_geo.live.blend import InPlace
    from mergekit_geo.merging.blend import Blend
    from mergekit_geo.objectives.halves import Halves
    from mergekit_geo.objectives.objective import TaskObjective
    from mergekit_geo.progress import Progress
    from mergekit_geo.selection.learned import Weights
    from mergekit_geo.workflows.measuring import Ground

METHODS = ("uniform", "weighted", "greedy", "learned")
PICKS = ("best", "midpoint", "mean")
PAIR = 2
MIDPOINT = 0.5


@dataclass(frozen=True)
class Choosing:
    """How a point is chosen.

    Attributes:
        method: `uniform` or `weighted` by the weights given; `greedy` or `learned` by loss.
        with_replacement: Greedy adds models again and again while that helps.
        granularity: Learned coefficients are shared by the `model`, a `layer` or a `tensor`.
        steps: Of the learned soup's optimiser.
        along: Take a point of a path between two models: `linear`, `slerp`, or the folder of a
            fitted one.
        pick: Which one: `best` by loss, `midpoint`, or the `mean` of several.
        average_points: How many the mean is over, at even distances in t.
        basin: Leave out models that a barrier parts from the largest basin.
    """

    method: str = "uniform"
    with_replacement: bool = False
    granularity: str = "model"
    steps: int = 50
    along: str | None = None
    pick: str | None = None
    average_points: int = 9
    basin: bool = False

    def __post_init__(self) -> None:
        _check("method", self.method, METHODS)
        _check("granularity", self.granularity, GRANULARITIES)
        if self.pick is not None:
            _check("pick", self.pick, PICKS)
        if self.along is None and self.pick is not None:
            raise ArgumentError("--pick takes a point of a path", remedy="--along linear or slerp")
        if self.average_points < PAIR:
            raise ArgumentError(f"a mean is over 2 points or more, found {self.average_points}")
        if self.along is not None and self.method in {"greedy", "learned"}:
            raise ArgumentError(f"--along and --method {self.method} are two ways to choose")
        if self.along is not None and self.basin:
            raise ArgumentError("--basin may leave a model out, and a path needs both")

    @property
    def by_loss(self) -> bool:
        """Whether anything is chosen by its loss."""
        return self.method in {"greedy", "learned"} or self.basin or self.picks_best

    @property
    def picks_best(self) -> bool:
        """Whether the best point of a path is sought."""
        return self.along is not None and self.pick in {None, "best"}


@dataclass(frozen=True)
class Chosen:
    """What was chosen.

    Attributes:
        rule: Of the merge.
        rules: By tensor, where one has a rule of its own.
        entry: For the report.
        halves: What it was chosen on, and what remains to report on.
        bends: Anchors beside the models.
    """

    rule: Rule
    rules: Mapping[str, Rule] = field(default_factory=dict)
    entry: SelectionEntry | None = None
    halves: Halves | None = None
    bends: tuple[Checkpoint, ...] = ()


def unchosen(choosing: Choosing, route: Route) -> Rule:
    """The point of a path that is taken without a look at losses.

    Args:
        choosing: `midpoint` or `mean`; the middle where the best is still to be sought.
        route: The path.

    Raises:
        ArgumentError: The path's coefficients depend on the tensors, and the mean is asked for.
    """
    if choosing.pick != "mean":
        return route.rule(MIDPOINT)
    count = choosing.average_points
    rules = [route.rule(i / (count - 1)) for i in range(count)]
    if any(rule.needs_gram for rule in rules):
        raise ArgumentError(
            f"the mean of points along {route.name} is no one rule", remedy="--along linear"
        )
    columns = zip(*(rule.weights for rule in rules), strict=True)
    weights = tuple(sum(column) / count for column in columns)
    return Linear(weights, branch=f"mean of {route.name}", name=f"mean of {route.name}")


def evaluations(choosing: Choosing, count: int) -> int:
    """About how many measurements choosing takes, for the estimate of the cost."""
    pairs = count * (count - 1) // 2
    found = 3 * pairs + count if choosing.basin else 0
    if choosing.picks_best:
        return found + 12
    if choosing.method == "greedy":
        return found + (count * count if choosing.with_replacement else 2 * count)
    return found + count + 1 if choosing.method == "learned" else found


def choose(
    choosing: Choosing,
    weights: Sequence[float],
    ground: Ground,
    progress: Progress,
    seed: int,
    route: Route | None = None,
) -> Chosen:
    """Choose a point by loss.

    Args:
        choosing: How.
        weights: Of the soup where nothing else is asked for.
        ground: Where losses are measured; its anchors are the models.
        progress: Told of steps.
        seed: Of the halves.
        route: The path that a point of is sought; None without one.

    Raises:
        DataError: Too few documents for two halves.
    """
    halves = ground.halves(seed)
    first = ground.walk.at_model(0)
    search = _Search(choosing, weights, ground, halves, progress, route)
    members, left_out = search.members()
    rule, rules, method, text, steps = search.run(members)
    entry = SelectionEntry(
        method=method,
        chosen=text,
        documents=len(set(first.document[halves.selection].tolist())),
        steps=steps,
        left_out=left_out,
    )
    return Chosen(rule, rules, entry, halves, () if route is None else route.bends)


Found = tuple[Rule, Mapping[str, Rule], str, str, list[tuple[str, float]]]


@dataclass
class _Search:
    choosing: Choosing
    weights: Sequence[float]
    ground: Ground
    halves: Halves
    progress: Progress
    route: Route | None = None

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
        if self.route is not None:
            return self._along(self.route)
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

    def _along(self, route: Route) -> Found:
        from mergekit_geo.selection.line_search import line_search

        found = line_search(
            lambda t: self.ground.walk.between(0, 1, route, t).take(self.halves.selection).mean
        )
        steps = [(f"t = {t:.4f}", loss) for t, loss in found.tried]
        text = f"t = {found.t:.4f}"
        return route.rule(found.t), {}, f"best along {route.name}", text, steps

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


def _check(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ArgumentError(f"{name} {value!r}: expected one of {', '.join(known)}")


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
