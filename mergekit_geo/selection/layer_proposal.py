"""Weights by group of layers, for two models whose mean is worse than the better of them.

From the mean, groups go back to the better model one after the other, those first whose return
helps most by itself (leave-one-out). The best of all that was tried on the selection half is
proposed, the mean and the models themselves among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mergekit_geo.connectivity.layer_rises import Group, LayerMoves, ModelWeights, alone
from mergekit_geo.evaluation.point import Point
from mergekit_geo.records.findings import percent
from mergekit_geo.records.layers import GroupWeights

MOST_OF_IT = 0.5
"""Share of the rise that groups carry together which are named, where nothing helps."""

BLOCK = re.compile(r"(.*?)layers? (\d+)(?:-(\d+))?")

Given = tuple[tuple[Group, int], ...]
"""Groups, and the model that each goes back to."""


@dataclass(frozen=True)
class Tried:
    """A place that was tried.

    Attributes:
        given: Groups that are back at a model.
        point: The place.
        loss: There, on the selection half.
    """

    given: Given
    point: Point
    loss: float

    @property
    def model(self) -> int | None:
        """The model that it is, if it is one as it is."""
        return self.point.alone


@dataclass(frozen=True)
class Proposal:
    """The best of what was tried.

    Attributes:
        moves: Between the two models.
        best: Of lowest loss.
        tried: All, the mean first, then the models, then what was tried by division.
    """

    moves: LayerMoves
    best: Tried
    tried: tuple[Tried, ...]

    @property
    def mean(self) -> Tried:
        """Without any group that is back at a model."""
        return self.tried[0]

    @property
    def model(self) -> int | None:
        """The model that is proposed as it is, if one is."""
        return self.best.model

    @property
    def weights(self) -> ModelWeights:
        """Of all tensors that are in no group of their own."""
        return self.moves.mean if self.model is None else alone(self.model)

    @property
    def groups(self) -> list[GroupWeights]:
        """Groups with weights of their own."""
        given = self.best.given if self.model is None else ()
        return [
            GroupWeights(group=one.name, weights=list(alone(i)), tensors=list(one.tensors))
            for one, i in given
        ]

    def share(self, one: Tried, better: Tried) -> float | None:
        """Share of the rise that is gone at a place; None where the mean is not above a model."""
        rise = self.mean.loss - better.loss
        return (self.mean.loss - one.loss) / rise if rise > 0 else None


def propose(
    moves: LayerMoves, models: Sequence[int], loss_of: Callable[[Point], float]
) -> Proposal:
    """Weights of lowest loss among those that are tried.

    Args:
        moves: Between the two models.
        models: That groups may go back to: the better one, or each that is on some set.
        loss_of: Loss at a point, on the selection half.
    """
    tried = [Tried((), moves.at_mean, loss_of(moves.at_mean))]
    tried += [Tried(_all(moves, i), moves.of(i), loss_of(moves.of(i))) for i in models]
    for division in ("depth", "kind"):
        groups = [group for group in moves.groups if group.division == division]
        tried += _one_after_another(moves, groups, models, loss_of)
    return Proposal(moves, min(tried, key=lambda one: one.loss), tuple(tried))


def measurements(moves: LayerMoves, models: int) -> int:
    """Number of losses that a proposal takes beside the moves themselves."""
    return sum(max(0, _count(moves, one) - 2 + (models > 1)) for one in ("depth", "kind"))


def _count(moves: LayerMoves, division: str) -> int:
    return sum(group.division == division for group in moves.groups)


def _all(moves: LayerMoves, model: int) -> Given:
    return tuple((group, model) for group in moves.groups if group.division == "depth")


def _one_after_another(
    moves: LayerMoves,
    groups: Sequence[Group],
    models: Sequence[int],
    loss_of: Callable[[Point], float],
) -> list[Tried]:
    """Groups back at their best models, one more each time, in the order of what each helps."""
    single = [
        min(_returns(moves, group, models, loss_of), key=lambda t: t.loss) for group in groups
    ]
    order = [found.given[0] for found in sorted(single, key=lambda one: one.loss)]
    several = [_tried(moves, tuple(order[:count]), loss_of) for count in range(2, len(order) + 1)]
    return [*sorted(single, key=lambda one: one.loss)[:1], *several]


def _returns(
    moves: LayerMoves, group: Group, models: Sequence[int], loss_of: Callable[[Point], float]
) -> list[Tried]:
    return [_tried(moves, ((group, i),), loss_of) for i in models]


def _tried(moves: LayerMoves, given: Given, loss_of: Callable[[Point], float]) -> Tried:
    """A place; where all groups are back at one model, it is that model."""
    (division,) = {group.division for group, _ in given}
    models = {i for _, i in given}
    whole = len(given) == _count(moves, division) and len(models) == 1
    point = moves.of(models.pop()) if whole else moves.back(given)
    return Tried(given, point, loss_of(point))


def advice(found: Proposal, better: int, on: str = "") -> str:
    """What to do, in a sentence.

    Args:
        found: What was tried.
        better: The model whose rise is shared out.
        on: Name of the evaluation set, where there are several.
    """
    base = next(one for one in found.tried if one.model == better)
    names, place = found.moves.names, f" on {on}" if on else ""
    if found.best is found.mean:
        return "No layers need weights of their own: the mean has the lowest loss of all tried."
    if found.model is not None:
        return f"No mean of layers helps: {names[found.model]} itself has the lowest loss of all " \
               f"tried.{_carriers(found, base, place)}"  # fmt: skip
    share = found.share(found.best, base)
    does = "lower the loss" if share is None else f"carry {_whole(share)} of the rise{place}"
    given = {i: _named(found.best.given, i) for i in dict.fromkeys(i for _, i in found.best.given)}
    orders = "; ".join(f"{what}: weight 1 of {names[i]}" for i, what in given.items())
    if share is None:
        return f"Weights of their own {does}: {orders}. All else stays at the mean."
    together = joined([group.name for group, _ in found.best.given])
    if len(given) == 1:
        verb = does if _is_plural(together) else does.replace("carry", "carries", 1)
        them = "them" if _is_plural(together) else "it"
        return f"{_sentence(together)} {verb}: give {them} weight 1 of {names[better]}."
    return f"{_sentence(together)} {does}: give {orders}."


def _carriers(found: Proposal, base: Tried, place: str) -> str:
    """The fewest groups by depth that carry most of the rise together."""
    for one in found.tried:
        share = found.share(one, base)
        is_part = one.given and one.model is None and one.given[0][0].division == "depth"
        if is_part and share is not None and share >= MOST_OF_IT:
            together = joined([group.name for group, _ in one.given])
            verb = "carry" if _is_plural(together) else "carries"
            return f" {_sentence(together)} {verb} {_whole(share)} of the rise{place}."
    return ""


def _named(given: Given, model: int) -> str:
    return joined([group.name for group, i in given if i == model])


def _whole(share: float) -> str:
    return percent(share) if share < 1 else "all"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _is_plural(text: str) -> bool:
    return " and " in text or "layers" in text or text in {"embeddings", "norms", "experts"}


def joined(names: Sequence[str]) -> str:
    """Names of groups, blocks of layers that follow each other as one.

    Example:
        >>> joined(["layer 1", "norm", "layers 2-3", "layer 0", "layer 7"])
        'layers 0-3, layer 7 and norm'
    """
    blocks: dict[str, list[list[int]]] = {}
    others = []
    for name in names:
        if found := BLOCK.fullmatch(name):
            first = int(found[2])
            blocks.setdefault(found[1], []).append([first, int(found[3] or first)])
        else:
            others.append(name)
    runs = [text for stack, own in blocks.items() for text in _runs(stack, sorted(own))]
    *most, last = [*runs, *others]
    return f"{', '.join(most)} and {last}" if most else last


def _runs(stack: str, blocks: Sequence[list[int]]) -> list[str]:
    runs: list[list[int]] = []
    for first, last in blocks:
        if runs and runs[-1][1] + 1 == first:
            runs[-1][1] = last
        else:
            runs.append([first, last])
    return [
        f"{stack}layer {first}" if first == last else f"{stack}layers {first}-{last}"
        for first, last in runs
    ]
