"""Soups chosen by loss: on the selection half, before anything is merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mergekit_geo.config.selection import SelectionConfig
from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.records.merge import SelectionEntry

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint
    from mergekit_geo.evaluation.points import PointEvaluator
    from mergekit_geo.evaluation.split import Split
    from mergekit_geo.merging.blend import Blend
    from mergekit_geo.selection.along import PathTo
    from mergekit_geo.selection.greedy import GreedySoup
    from mergekit_geo.selection.learning import Seen
    from mergekit_geo.selection.selected_point import SelectedPoint
    from mergekit_geo.tasks.losses import Indices


@dataclass(frozen=True)
class Chosen:
    """What was chosen.

    Attributes:
        rule: Of the merge.
        rules: By tensor, where one has a rule of its own.
        entry: For the report.
        split: What it was chosen on, and what remains to report on.
        bends: Anchors beside the models.
        segments: Of the paths that were taken, and the point of each.
    """

    rule: Rule
    rules: Mapping[str, Rule] = field(default_factory=dict)
    entry: SelectionEntry | None = None
    split: Split | None = None
    bends: tuple[Checkpoint, ...] = ()
    segments: tuple[SelectedPoint, ...] = ()


def choose(
    choosing: SelectionConfig,
    weights: Sequence[float],
    evaluator: PointEvaluator,
    route_to: PathTo | None = None,
    dtype: str | None = None,
) -> Chosen:
    """Choose a point by loss.

    Args:
        choosing: How.
        weights: Of the soup where nothing else is asked for.
        evaluator: Where losses are measured; its anchors are the models.
        route_to: Gives the path from a point to a model, where points of paths are sought.
        dtype: Of the output, as safetensors names it; the first model's own if None. Soups are
            measured as they would be written.

    Raises:
        DataError: Too few documents for two halves.
    """
    split = evaluator.split
    first = evaluator.at_model(0)
    documents = len(set(first.document[split.selection].tolist()))
    if choosing.along is not None:
        return _along(choosing, evaluator, route_to, documents)
    search = _Search(choosing, weights, evaluator, dtype)
    members, left_out = search.members()
    found = search.run(members)
    entry = SelectionEntry(
        method=found.method,
        chosen=found.chosen,
        documents=documents,
        steps=found.steps,
        left_out=left_out,
        started_from=found.started_from,
    )
    return Chosen(found.rule, found.rules, entry, split)


def _along(
    choosing: SelectionConfig,
    evaluator: PointEvaluator,
    route_to: PathTo | None,
    documents: int,
) -> Chosen:
    from mergekit_geo.selection.along import along

    assert route_to is not None
    found = along(choosing, evaluator, route_to)
    entry = SelectionEntry(
        method=found.method,
        chosen=found.chosen,
        documents=documents,
        steps=found.steps,
        sharpness=found.sharpness,
    )
    return Chosen(found.point.rule, {}, entry, evaluator.split, found.point.bends, found.segments)


@dataclass(frozen=True)
class _Found:
    rule: Rule
    rules: Mapping[str, Rule]
    method: str
    chosen: str
    steps: list[tuple[str, float]]
    started_from: str | None = None


@dataclass
class _Search:
    choosing: SelectionConfig
    weights: Sequence[float]
    evaluator: PointEvaluator
    dtype: str | None

    @property
    def half(self) -> Indices:
        return self.evaluator.split.selection

    @property
    def names(self) -> list[str]:
        return [anchor.name for anchor in self.evaluator.anchors]

    def members(self) -> tuple[list[int], list[str]]:
        """Models of the largest basin, and why the others are left out."""
        everyone = list(range(len(self.names)))
        if not self.choosing.basin:
            return everyone, []
        from mergekit_geo.connectivity.pairs import basins_of, measure_pairs
        from mergekit_geo.connectivity.paths import path

        evaluator = self.evaluator
        pairs = measure_pairs(evaluator, (path("linear"),), points=5, most=5)
        losses = [evaluator.at_model(i).take(self.half).mean for i in everyone]
        largest = basins_of(evaluator, pairs, losses).largest
        left_out = [
            f"{self.names[i]}: a barrier parts it from {', '.join(self.names[j] for j in largest)}"
            for i in everyone
            if i not in largest
        ]
        return list(largest), left_out

    def run(self, members: list[int]) -> _Found:
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
        return _Found(rule, {}, "largest basin", text, [])

    def loss(self, title: str, blend: Blend, key: str) -> float:
        """Mean loss of a blend on the selection half."""
        key = f"{key} {self.dtype}" if self.dtype else key
        return self.evaluator.at(title, blend, key).take(self.half).mean

    def _soup(self, members: Sequence[int]) -> Linear:
        count = len(self.names)
        return Linear(tuple(members.count(i) / len(members) for i in range(count)))

    def _blend(self, rule: Rule, rules: Mapping[str, Rule] = {}) -> Blend:
        from mergekit_geo.merging.blend import Blend

        return Blend(tuple(self.evaluator.anchors), rule, self.dtype, rules)

    def _title(self, members: Sequence[int]) -> str:
        return " + ".join(self.names[i] for i in members)

    def _greedy_soup(self, members: Sequence[int], *, again: bool) -> GreedySoup:
        """Greedy soup over indices into `members`."""
        from mergekit_geo.selection.greedy import Members, greedy

        def loss_of(chosen: Members) -> float:
            soup = [members[i] for i in chosen]
            return self._seen(self._title(soup), soup).loss

        singles = [self.evaluator.at_model(i).take(self.half).mean for i in members]
        return greedy(singles, loss_of, with_replacement=again)

    def _greedy(self, members: Sequence[int]) -> _Found:
        found = self._greedy_soup(members, again=self.choosing.with_replacement)
        soup = [members[i] for i in found.members]
        steps = [(self._title([members[i] for i in s.members]), s.loss) for s in found.steps]
        return _Found(self._soup(soup), {}, "greedy", self._title(soup), steps)

    def _seen(self, title: str, soup: Sequence[int]) -> Seen:
        """A uniform soup of some models."""
        from mergekit_geo.selection.learning import Seen

        blend = self._blend(self._soup(soup))
        return Seen(title, blend, self.loss(title, blend, f"soup {sorted(soup)}"))

    def _starts(self, members: Sequence[int]) -> list[Seen]:
        """The uniform soup, the greedy one and the best model, each once, as it is written."""
        greedy = self._greedy_soup(members, again=False)
        joined, (best,) = [members[i] for i in greedy.members], greedy.steps[0].members
        titles = {  # one that is another has the later title
            tuple(sorted(joined)): f"greedy soup, {self._title(joined)}",
            tuple(members): "uniform soup",
            (members[best],): self.names[members[best]],
        }
        return [self._seen(title, soup) for soup, title in titles.items()]

    def _learned(self, members: Sequence[int]) -> _Found:
        from mergekit_geo.selection.learning import best_seen, differentiable, learned_from

        gradient = differentiable(self.evaluator)
        starts = self._starts(members)
        start = best_seen(starts)
        progress = self.evaluator.study.progress
        way = learned_from(start.blend, members, self.choosing, gradient, self.loss, progress)
        best = best_seen([start, *way])
        steps = [(point.title, point.loss) for point in (*starts, *way)]
        rule, rules = best.blend.rule, best.blend.rules
        if best is start:
            alone = start.title in self.names
            text = "nothing helped it" if alone else "learning did not help"
            title = start.title if alone else f"the {start.title}"
            return _Found(rule, rules, "learned", f"{title}: {text}", steps, start.title)
        text = ", ".join(
            f"{name} {weight:.3f}" for name, weight in zip(self.names, rule.weights, strict=True)
        )
        method = f"learned by {self.choosing.granularity}"
        return _Found(rule, rules, method, text, steps, start.title)
