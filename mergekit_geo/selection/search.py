"""The point with the lowest loss on the selection half, sought before anything is merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mergekit_geo.config.selection import SelectionConfig, evaluations
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.aim import Aim
from mergekit_geo.evaluation.point import Point
from mergekit_geo.evaluation.points import PointEvaluator
from mergekit_geo.evaluation.study import Study
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.records.merge import SelectionEntry
from mergekit_geo.selection.along import along
from mergekit_geo.selection.basins import basins_over
from mergekit_geo.selection.greedy import GreedySoup, Members, greedy
from mergekit_geo.selection.learning import Candidate, best_of, differentiable, learned_from
from mergekit_geo.selection.paths import paths_of_kind
from mergekit_geo.selection.selector import Selected, Selector


def select_by_loss(
    selector: Selector, study: Study, dtype: str | None, further: int
) -> tuple[Selected, PointEvaluator]:
    """The point with the lowest loss of those that are asked for, and where it was measured.

    Args:
        selector: Which points.
        study: The models, and what loss is measured on.
        dtype: Of the output; soups are measured as they would be written.
        further: Number of measurements to come, for the estimate of the cost.
    """
    config = selector.config
    count = evaluations(config, len(study.anchors)) + further
    evaluator = PointEvaluator.open(study, count, refresh_models=False)
    aim = Aim(evaluator, selector.aim)
    for one in evaluator.every:
        _ = one.split  # refuses too few documents before any search
    if config.along is None:
        return SoupSearch(config, selector.rule.weights, aim, dtype).run(), evaluator
    if (only := selector.path) is not None:
        return along(config, aim, lambda point, target: only), evaluator
    path_to = paths_of_kind(config.along, aim, selector.fitting, selector.fit_seed)
    return along(config, aim, path_to), evaluator


def on_report_half(
    selected: Selected, study: Study, further: int
) -> tuple[Selected, PointEvaluator]:
    """What was chosen before on the selection half, to be reported on the other.

    Args:
        selected: The point.
        study: The models, and what loss is measured on.
        further: Number of measurements to come, and one of the uniform soup.
    """
    evaluator = PointEvaluator.open(study, further + 1, refresh_models=False)
    return replace(selected, split=evaluator.split), evaluator


@dataclass(frozen=True)
class _Found:
    """What a search for a soup comes to.

    Attributes:
        point: The soup.
        method: How it was found.
        chosen: It in words.
        steps: What was tried, and its loss.
        started_from: Where a learned soup began.
    """

    point: Point
    method: str
    chosen: str
    steps: list[tuple[str, float]]
    started_from: str | None = None


@dataclass(frozen=True)
class SoupSearch:
    """Looks for the best soup of models.

    Attributes:
        config: How.
        weights: Of the soup where nothing else is asked for.
        aim: By which soups are compared, where losses are measured.
        dtype: Of the output; soups are measured as they would be written.
    """

    config: SelectionConfig
    weights: Sequence[float]
    aim: Aim
    dtype: str | None = None

    def run(self) -> Selected:
        """The soup of the models, or of those of the largest basin.

        Raises:
            DataError: No soup that was tried keeps the sets that are to be kept.
        """
        members, left_out = self._members()
        found = self._search(members)
        self.aim.require_kept(self._value(found.point))
        entry = SelectionEntry(
            method=found.method,
            chosen=found.chosen,
            documents=self.aim.documents,
            aim=self.aim.text,
            steps=found.steps,
            left_out=left_out,
            started_from=found.started_from,
        )
        return Selected(found.point, entry, self.evaluator.split)

    @property
    def evaluator(self) -> PointEvaluator:
        """Where losses are measured; its anchors are the models."""
        return self.aim.evaluator

    @property
    def _names(self) -> tuple[str, ...]:
        return self.evaluator.names

    def _members(self) -> tuple[list[int], list[str]]:
        """Models of the largest basin, and why the others are left out."""
        names = self._names
        everyone = list(range(len(names)))
        if not self.config.basin:
            return everyone, []
        largest = basins_over(self.aim, self._singles(everyone)).largest
        left_out = [
            f"{names[i]}: a barrier separates it from {', '.join(names[j] for j in largest)}"
            for i in everyone
            if i not in largest
        ]
        return list(largest), left_out

    def _search(self, members: list[int]) -> _Found:
        if self.config.method == "greedy":
            return self._greedy(members)
        if self.config.method == "learned":
            return self._learned(members)
        kept = [w if i in members else 0.0 for i, w in enumerate(self.weights)]
        if not sum(kept):
            raise ArgumentError("the weights of the largest basin sum to zero")
        rule = Linear(tuple(w / sum(kept) for w in kept))
        names = ", ".join(self._names[i] for i in members)
        return _Found(Point(rule, "largest basin", ""), "largest basin", names, [])

    def _singles(self, members: Sequence[int]) -> list[float]:
        """What single models count on the selection half."""
        return [self.aim.at_model(i) for i in members]

    def _value(self, point: Point) -> float:
        """What a point counts on the selection half."""
        return self.aim.value(point)

    def _soup(self, members: Sequence[int], title: str = "") -> Point:
        return Point.mean(members, self._names, title, self.dtype)

    def _greedy_soup(self, members: Sequence[int], *, again: bool) -> GreedySoup:
        """Greedy soup over indices into `members`."""

        def loss_of(chosen: Members) -> float:
            return self._value(self._soup([members[i] for i in chosen]))

        return greedy(self._singles(members), loss_of, with_replacement=again)

    def _greedy(self, members: Sequence[int]) -> _Found:
        found = self._greedy_soup(members, again=self.config.with_replacement)
        soup = self._soup([members[i] for i in found.members])
        steps = [(self._soup([members[i] for i in s.members]).title, s.loss) for s in found.steps]
        return _Found(soup, "greedy", soup.title, steps)

    def _starts(self, members: Sequence[int]) -> list[Candidate]:
        """The uniform soup, the greedy one and the best model, each once, as it is written."""
        greedy = self._greedy_soup(members, again=False)
        joined, (best,) = [members[i] for i in greedy.members], greedy.steps[0].members
        titles = {  # one that is another has the later title
            tuple(sorted(joined)): f"greedy soup, {self._soup(joined).title}",
            tuple(members): "uniform soup",
            (members[best],): self._names[members[best]],
        }
        soups = [self._soup(soup, title) for soup, title in titles.items()]
        return [Candidate(soup, self._value(soup)) for soup in soups]

    def _learned(self, members: Sequence[int]) -> _Found:
        gradient = differentiable(self.aim)
        starts = self._starts(members)
        start = best_of(starts)
        way = learned_from(start.point, members, self.config, gradient, self.evaluator, self._value)
        best, title = best_of([start, *way]), start.point.title
        steps = [(found.point.title, found.loss) for found in (*starts, *way)]
        if best is start:
            alone = title in self._names
            text = f"{title}: nothing helped it" if alone else f"the {title}: learning did not help"
            return _Found(start.point, "learned", text, steps, title)
        weights = zip(self._names, best.point.rule.weights, strict=True)
        text = ", ".join(f"{name} {weight:.3f}" for name, weight in weights)
        method = f"learned by {self.config.granularity}"
        return _Found(best.point, method, text, steps, title)
