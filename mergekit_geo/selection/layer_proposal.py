"""Weights by group of layers, for two models whose mean is worse than the better of them.

What is tried, on the selection half: the mean and the models; from the mean, groups that go back to
a model one after the other, those first whose return helps most by itself (leave-one-out); from
each model, groups that go to the mean, as long as each alone lowers the loss (leave-one-in).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mergekit_geo.checkpoints.layer_groups import joined
from mergekit_geo.connectivity.layer_rises import LayerGroup, LayerMoves, ModelWeights, alone
from mergekit_geo.evaluation.point import Point
from mergekit_geo.records.findings import percent
from mergekit_geo.records.layers import Division, GroupWeights

MOST_OF_IT = 0.5
"""Share of the rise that groups carry together which are named, where nothing helps."""

DIVISIONS: tuple[Division, ...] = ("depth", "kind")

Given = tuple[tuple[LayerGroup, int], ...]
"""Groups, and the model that each goes back to."""

Loss = Callable[[Point], float]


@dataclass(frozen=True)
class Tried:
    """A place that was tried.

    Attributes:
        given: Groups that are back at a model.
        point: The place.
        loss: There, on the selection half: of several sets, what is aimed at.
    """

    given: Given
    point: Point
    loss: float


@dataclass(frozen=True)
class Proposal:
    """The best of what was tried.

    Attributes:
        moves: Between the two models.
        best: Of lowest loss, if that is significantly below the mean's; else the mean.
        tried: All, the mean first, then the models, then what was tried by division.
    """

    moves: LayerMoves
    best: Tried
    tried: tuple[Tried, ...]

    @property
    def is_mean(self) -> bool:
        """Whether the mean is proposed as it is."""
        return self.best is self.tried[0]

    @property
    def model(self) -> int | None:
        """The model that is proposed as it is, if one is."""
        return self.best.point.alone

    @property
    def weights(self) -> ModelWeights:
        """Weights of all tensors that are in no group of their own."""
        return self.moves.mean if self.model is None else alone(self.model)

    @property
    def groups(self) -> list[GroupWeights]:
        """Groups with weights of their own."""
        given = self.best.given if self.model is None else ()
        return [
            GroupWeights(group=one.name, weights=list(alone(i)), tensors=list(one.tensors))
            for one, i in given
        ]


def propose(
    moves: LayerMoves, models: Sequence[int], loss_of: Loss, beats: Callable[[Point, Point], bool]
) -> Proposal:
    """Weights of lowest loss among those that are tried, or the mean where none beats it.

    Args:
        moves: Between the two models.
        models: That groups may go back to: the better one, or each that is on some set.
        loss_of: Loss at a point, on the selection half.
        beats: Whether the first of two points is significantly better there.
    """
    tried = [Tried((), moves.at_mean, loss_of(moves.at_mean))]
    tried += [_tried(moves, _all(moves, "depth", i), loss_of) for i in models]
    for division in DIVISIONS:
        tried += _one_after_another(moves, division, models, loss_of)
        for model in models:
            tried += _from_model(moves, division, model, loss_of)
    mean, best = tried[0], min(tried, key=_loss)
    if math.isfinite(mean.loss) and not beats(best.point, mean.point):
        best = mean
    return Proposal(moves, best, tuple(tried))


def measurements(moves: LayerMoves, models: int) -> int:
    """Number of losses that a proposal takes beside the moves themselves, at the least."""
    counts = [len(_groups(moves, division)) for division in DIVISIONS]
    return sum(max(0, count - 2 + (models > 1)) for count in counts)


def _groups(moves: LayerMoves, division: Division) -> list[LayerGroup]:
    return [group for group in moves.groups if group.division == division]


def _all(moves: LayerMoves, division: Division, model: int) -> Given:
    return tuple((group, model) for group in _groups(moves, division))


def _one_after_another(
    moves: LayerMoves, division: Division, models: Sequence[int], loss_of: Loss
) -> list[Tried]:
    """Groups back at their best models, one more each time, in the order of what each helps."""
    single = sorted(
        (
            min((_tried(moves, ((group, i),), loss_of) for i in models), key=_loss)
            for group in _groups(moves, division)
        ),
        key=_loss,
    )
    order = [found.given[0] for found in single]
    several = [_tried(moves, tuple(order[:count]), loss_of) for count in range(2, len(order) + 1)]
    return [*single[:1], *several]


def _from_model(moves: LayerMoves, division: Division, model: int, loss_of: Loss) -> list[Tried]:
    """A model with groups at the mean that lower its loss by themselves, one more each time."""
    own, groups = loss_of(moves.of(model)), _groups(moves, division)
    losses = {group: loss_of(moves.into(model, group)) for group in groups}
    order = sorted((group for group in groups if losses[group] < own), key=losses.__getitem__)
    places = [
        tuple((group, model) for group in groups if group not in order[:count])
        for count in range(1, len(order) + 1)
    ]
    return [_tried(moves, given, loss_of) for given in places if given]


def _loss(one: Tried) -> float:
    """What is sorted by: what is not a number comes last."""
    return math.inf if math.isnan(one.loss) else one.loss


def _tried(moves: LayerMoves, given: Given, loss_of: Loss) -> Tried:
    """A place; all groups at one model are that model, and all but one are leave-one-in."""
    models, at_mean = {i for _, i in given}, _others(moves, given)
    if len(models) > 1 or len(at_mean) > 1:
        point = moves.back(given)
    else:
        (model,) = models
        point = moves.into(model, at_mean[0]) if at_mean else moves.of(model)
    return Tried(given, point, loss_of(point))


def _others(moves: LayerMoves, given: Given) -> list[LayerGroup]:
    """Groups of the same division that stay at the mean."""
    gone = {group for group, _ in given}
    (division,) = {group.division for group in gone}
    return [group for group in _groups(moves, division) if group not in gone]


@dataclass(frozen=True)
class OnSet:
    """How a proposal does on one evaluation set.

    Attributes:
        name: Of the set; empty where there is one.
        better: The model of lower loss there.
        loss_of: Loss at a point there, on the selection half.
    """

    name: str
    better: int
    loss_of: Loss

    def share(self, found: Proposal, one: Tried) -> float | None:
        """Share of the rise that is gone at a place; None where the mean is not above a model."""
        mean, own = (self.loss_of(at) for at in (found.moves.at_mean, found.moves.of(self.better)))
        return (mean - self.loss_of(one.point)) / (mean - own) if mean > own else None


def advice(found: Proposal, sets: Sequence[OnSet]) -> str:
    """What to do, in a sentence or two.

    Args:
        found: What was tried.
        sets: The evaluation sets.
    """
    if found.is_mean:
        return (
            "No layers need weights of their own: nothing that was tried is significantly better "
            "than the mean."
        )
    if found.model is not None:
        name, carriers = found.moves.names[found.model], _carriers(found, sets)
        return f"No mean of layers helps: {name} itself has the lowest loss of all tried.{carriers}"
    together = joined([group.name for group, _ in found.best.given])
    carried = _carried(found, found.best, sets, together)
    if not carried:
        return f"The loss is lowest with {_orders(found)}; all else stays at the mean."
    by_model = {i for _, i in found.best.given}
    them = "them" if _is_plural(together) else "it"
    one = f"{them} weight 1 of {found.moves.names[min(by_model)]}"
    return f"{carried}: give {one if len(by_model) == 1 else _orders(found)}."


def _orders(found: Proposal) -> str:
    """Which groups get weight 1 of which model."""
    models = sorted({i for _, i in found.best.given})
    return " and ".join(
        f"{joined([group.name for group, j in found.best.given if i == j])} weight 1 of "
        f"{found.moves.names[i]}" if len(models) > 1
        else f"weight 1 of {found.moves.names[i]} for "
        f"{joined([group.name for group, _ in found.best.given])}"
        for i in models
    )  # fmt: skip


def _carried(found: Proposal, one: Tried, sets: Sequence[OnSet], together: str) -> str:
    """How much of the rise groups carry together, on each set that has one."""
    shares = [(on.name, on.share(found, one)) for on in sets]
    told = [
        f"{_whole(share)} of the rise{f' on {name}' if name else ''}"
        for name, share in shares
        if share is not None and share > 0
    ]
    verb = "carry" if _is_plural(together) else "carries"
    return f"{together[:1].upper()}{together[1:]} {verb} {' and '.join(told)}" if told else ""


def _carriers(found: Proposal, sets: Sequence[OnSet]) -> str:
    """The fewest groups by depth that carry most of the rise together, on some set."""
    for one in found.tried:
        is_part = one.given and one.point.alone is None and one.given[0][0].division == "depth"
        shares = [on.share(found, one) or 0.0 for on in sets] if is_part else []
        if any(share >= MOST_OF_IT for share in shares):
            together = joined([group.name for group, _ in one.given])
            return f" {_carried(found, one, sets, together)}."
    return ""


def _whole(share: float) -> str:
    return percent(share) if share < 1 else "all"


def _is_plural(text: str) -> bool:
    return " and " in text or "layers" in text or text in {"embeddings", "norms", "experts"}
