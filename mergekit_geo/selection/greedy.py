"""Greedy soup (Wortsman 2022, recipe 1): members join while the soup gets better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mergekit_geo.selection.chain import best_first, join

Members = tuple[int, ...]


@dataclass(frozen=True)
class GreedyStep:
    """One soup that was tried.

    Attributes:
        members: Indices of its models, repeated where one counts twice.
        loss: On the selection half.
        kept: Whether it became the soup.
    """

    members: Members
    loss: float
    kept: bool


@dataclass(frozen=True)
class GreedySoup:
    """What was found.

    Attributes:
        members: Indices of the models in the soup.
        steps: Every soup tried, in order; the first is the best single model.
    """

    members: Members
    steps: tuple[GreedyStep, ...]

    def weights(self, count: int) -> tuple[float, ...]:
        """Share of each of `count` models."""
        return tuple(self.members.count(i) / len(self.members) for i in range(count))


def greedy(
    losses: Sequence[float], loss_of: Callable[[Members], float], *, with_replacement: bool = False
) -> GreedySoup:
    """Start with the best model; try each other once, from good to bad.

    It is kept if the soup of all so far is strictly better with it (as the published code does).

    Args:
        losses: Of each single model.
        loss_of: Of the uniform soup of some models.
        with_replacement: Instead, add in each round the model (any, again and again) that helps
            most, until none does (Caruana 2004).

    Example:
        >>> found = greedy([3.0, 1.0, 2.0], lambda members: 2.0 - len(members) * (0 not in members))
        >>> found.members, found.weights(3)
        ((1, 2), (0.0, 0.5, 0.5))
    """
    if with_replacement:
        return _with_replacement(losses, loss_of)

    def reach(members: Members, index: int) -> tuple[Members, float]:
        return (*members, index), loss_of((*members, index))

    tried = join(losses, lambda index: (index,), reach)
    steps = tuple(GreedyStep(step.point, step.loss, step.kept) for step in tried)
    return GreedySoup([step for step in steps if step.kept][-1].members, steps)


def _with_replacement(losses: Sequence[float], loss_of: Callable[[Members], float]) -> GreedySoup:
    order = best_first(losses)
    best = GreedyStep((order[0],), losses[order[0]], kept=True)
    steps = [best]
    while len(best.members) < 2 * len(order):
        candidates = [(*best.members, index) for index in order]
        tried = [_tried(members, loss_of(members), best) for members in candidates]
        winner = min(tried, key=lambda step: step.loss)
        steps += [GreedyStep(s.members, s.loss, kept=s is winner and s.kept) for s in tried]
        if not winner.kept:
            break
        best = winner
    return GreedySoup(best.members, tuple(steps))


def _tried(members: Members, loss: float, best: GreedyStep) -> GreedyStep:
    return GreedyStep(members, loss, kept=loss < best.loss)
