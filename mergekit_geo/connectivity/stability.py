"""When a training enters the basin of its end, by the barriers between its checkpoints.

Frankle (2020) calls a network stable from the step on from which two copies of it, trained on with
different noise, end without a barrier between them. Here the one training that there is stands in
for both: barriers from each checkpoint to the next one, and to the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mergekit_geo.checkpoints.runs import Run
from mergekit_geo.errors import ArgumentError
from mergekit_geo.records.barrier import BarrierEntry, StabilityEntry
from mergekit_geo.records.model import Geometry
from mergekit_geo.views.basins import standing

FEWEST = 3
"""Checkpoints of a training: the next one and the last one differ from there on."""

Pairs = Sequence[tuple[int, int]]


def pairs_of_run(count: int) -> Pairs:
    """Each checkpoint with the next one, and with the last one.

    Example:
        >>> pairs_of_run(4)
        [(0, 1), (1, 2), (2, 3), (0, 3), (1, 3)]
    """
    return [*pairwise(range(count)), *((i, count - 1) for i in range(count - 2))]


def stability(
    run: Run, names: Sequence[str], entries: Sequence[BarrierEntry], kinds: int = 1
) -> StabilityEntry:
    """From which checkpoint on nothing parts a training from its end.

    Args:
        run: The training, whose checkpoints are all models in their order.
        names: Of the checkpoints.
        entries: Paths of `pairs_of_run`, in its order, of each pair one of every kind.
        kinds: Number of kinds, the first of which counts.
    """
    pairs, entries = pairs_of_run(len(names)), entries[::kinds]
    last = len(names) - 1
    return StabilityEntry(
        steps=list(run.steps),
        to_next=[kinds * pairs.index((i, i + 1)) for i in range(last)],
        to_last=[kinds * pairs.index((i, last)) for i in range(last)],
        no_barrier_from=_first(names, pairs, [entry.significant is False for entry in entries]),
        one_basin_from=_first(names, pairs, [_connects(entry) for entry in entries]),
    )


def _connects(entry: BarrierEntry) -> bool:
    """Whether a barrier that matters would have been detected, and was not."""
    return standing(entry) in {"none", "negligible"}


def _first(names: Sequence[str], pairs: Pairs, holds: Sequence[bool]) -> str | None:
    """The first checkpoint from which on all paths hold; None where not even the last one does."""
    lost = [pair[0] for pair, found in zip(pairs, holds, strict=True) if not found]
    first = max(lost, default=-1) + 1
    return names[first] if first < len(names) - 1 else None


def require_distinct(names: Sequence[str], found: Geometry | None) -> None:
    """Refuse equal checkpoints, between which nothing lies.

    Raises:
        ArgumentError: It names two that are equal.
    """
    for pair in found.total.pairs if found else []:
        if pair.distance == 0:
            raise ArgumentError(
                f"{names[pair.first]} and {names[pair.second]} are equal: nothing lies between",
                remedy="leave one of them out",
            )


def require_run(count: int, runs: Sequence[Run]) -> None:
    """Refuse checkpoints that are not those of one training, or too few of them.

    Args:
        count: Of all checkpoints.
        runs: That they are of.

    Raises:
        ArgumentError: There are several runs, or fewer than three checkpoints.
    """
    if len(runs) > 1:
        raise ArgumentError(
            f"expected the checkpoints of one training, found {len(runs)}: "
            f"{', '.join(run.name for run in runs)}",
            remedy="ask for one after the other; barriers between runs: name the models themselves",
        )
    if count < FEWEST:
        raise ArgumentError(
            f"a training needs at least {FEWEST} checkpoints, found {count}",
            remedy="name more, such as --checkpoints 'run/checkpoint-*', or two models",
        )
