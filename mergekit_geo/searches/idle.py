"""Refuses dimensions that change nothing on the models that are there, before a search begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mergekit_geo.errors import GeoError, RecipeError
from mergekit_geo.searches.gaps import METHOD

if TYPE_CHECKING:
    from mergekit_geo.searches.candidates import Candidates
    from mergekit_geo.searches.dimension import Dimension
    from mergekit_geo.searches.trial import Values


def refuse_idle(candidates: Candidates) -> None:
    """Refuse ranges that no tensor follows: trials that differ in them alone are one merge.

    Args:
        candidates: The space and its models.

    Raises:
        RecipeError: With the line of the range, and the filter that matches nothing.
    """
    for one in candidates.space.dimensions:
        if one.name != METHOD and not _changes(candidates, one):
            told = candidates.prepared.resolved.warnings
            because = f": {told[0]}" if told else ""
            raise RecipeError(
                f"{one.name}: no tensor of the merge depends on this{because}",
                where=one.where,
                remedy="leave the range out, or give it to tensors that there are",
            )


def _changes(candidates: Candidates, one: Dimension) -> bool:
    """Whether the rules of a merge differ between the ends of a dimension."""
    space, ends = candidates.space, one.labels or (one.low, one.high)
    for values in _under(candidates, one):
        try:
            first, *others = (
                candidates.point(space.with_defaults({**values, one.name: end}), one.name)
                for end in ends
            )
        except GeoError:  # numbers that contradict each other
            return True
        if any((first.rule, first.rules) != (other.rule, other.rules) for other in others):
            return True
    return False


def _under(candidates: Candidates, one: Dimension) -> Iterator[Values]:
    """Defaults of all others, under each method that the dimension is asked for under."""
    space = candidates.space
    chosen = {name: labels[0] for name, labels in one.when.items()}
    for parent in reversed(space.dimensions):
        if parent.name in chosen:
            chosen = {**{name: labels[0] for name, labels in parent.when.items()}, **chosen}
    for label in one.when.get(METHOD, space.methods or ("",)):
        yield space.with_defaults({**chosen, **({METHOD: label} if label else {})})
