"""A learned soup as the place where a search begins: coefficients that the gradient prefers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergekit_geo.config.selection import SelectionConfig
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.point import Point
from mergekit_geo.searches.warm_starts import with_weights
from mergekit_geo.selection.learning import best_of, differentiable, learned_from

if TYPE_CHECKING:
    from mergekit_geo.evaluation.aim import Aim
    from mergekit_geo.searches.candidates import Candidates
    from mergekit_geo.searches.trial import Values

TITLE = "learned soup"


def learned_start(candidates: Candidates, aim: Aim) -> list[tuple[str, Values]]:
    """The values of a learned soup; none where the space holds no soups, or without gradients.

    Args:
        candidates: What is searched.
        aim: What is minimised on the selection halves.
    """
    members, names = candidates.members, candidates.names
    equal = {names[i]: 1 / len(members) for i in members}
    if with_weights(candidates.space, equal) is None:
        return []
    try:
        gradient = differentiable(aim)
    except DataError:
        return []
    start = Point.mean(members, aim.evaluator.names, "uniform soup", candidates.dtype)
    config = SelectionConfig(method="learned")
    found = learned_from(start, members, config, gradient, aim.evaluator, aim.value)
    if not found:
        return []
    weights = best_of(found).point.rule.weights
    values = with_weights(candidates.space, {names[i]: float(weights[i]) for i in members})
    return [] if values is None else [(TITLE, values)]
