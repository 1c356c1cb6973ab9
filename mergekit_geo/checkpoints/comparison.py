"""What a comparison of checkpoints has found, and the checks that need their data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.header import ITEM_BYTES
from mergekit_geo.checkpoints.naming import is_counter
from mergekit_geo.errors import IncompatibleError


@dataclass
class Preflight:
    """Result of comparing checkpoints.

    Attributes:
        anchors: The checkpoints under the donor's tensor names.
        notes: Ordinary differences, and what was done about them.
        warnings: Differences that the user should know of.
        problems: Why they cannot be merged; empty if they can.
        ties: Tensors that have to be equal, as a configuration ties them.
        untied: Whether some models tie head and embedding and others do not: merged, none does.
        aside: Names of what only the donor has, and keeps.
        unfit: Why single tensors cannot be merged, by model and stored name.
        is_fetched: Whether the data of the anchors is here, and was compared.
    """

    anchors: list[Checkpoint] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    ties: list[tuple[Checkpoint, str, str]] = field(default_factory=list)
    untied: bool = False
    aside: set[str] = field(default_factory=set)
    unfit: dict[Checkpoint, dict[str, str]] = field(default_factory=dict)
    is_fetched: bool = False

    def refuse(self, problem: str, holders: Sequence[tuple[Checkpoint, str]]) -> None:
        """Note what is wrong with a tensor, by its stored name in the models that have it."""
        self.problems.append(problem)
        for checkpoint, stored in holders:
            self.unfit.setdefault(checkpoint, {}).setdefault(stored, problem)

    def fetch(self) -> tuple[Checkpoint, ...]:
        """The anchors with their data at hand, after the checks that need data.

        Raises:
            IncompatibleError: Something is wrong.
            HubError: A download failed.
        """
        self.require()
        if not self.is_fetched:
            self.anchors = [anchor.fetch() for anchor in self.anchors]
            self.compare_values()
            self.require()
            self.is_fetched = True
        return tuple(self.anchors)

    def compare_values(self) -> None:
        """Make the checks that need data: integers are equal, tied tensors are the same."""
        self.problems += _differing_integers(self.anchors)
        self.problems += [p for tie in self.ties for p in _loose_tie(*tie)]

    def require(self) -> None:
        """Raise if there are problems.

        Raises:
            IncompatibleError: With all of them.
        """
        if self.problems:
            raise IncompatibleError(
                self.problems, remedy="merge fine-tunes of one base; `geo-merge check` compares"
            )


def _differing_integers(anchors: Sequence[Checkpoint]) -> list[str]:
    """Report integer and boolean tensors that differ, except counters."""
    donor = anchors[0]
    names = [
        name for name, info in donor.tensors.items() if not info.is_float and not is_counter(name)
    ]
    return [
        f"{name} holds integers that differ between {donor.name} and {other.name}"
        for name in names
        for other in anchors[1:]
        if name in other.tensors and not _equal(donor, name, other, name)
    ]


def _loose_tie(checkpoint: Checkpoint, target: str, source: str) -> list[str]:
    here = checkpoint.fetch()
    if _equal(here, target, here, source):
        return []
    return [
        f"{checkpoint.name} stores its own {target} although its configuration ties it to {source}"
    ]


def _equal(first: Checkpoint, name: str, second: Checkpoint, other: str) -> bool:
    """Whether two tensors hold the same bits, compared a chunk at a time."""
    info, length = first.tensors[name], 1 << 20
    if info != second.tensors[other]:
        return False
    size = ITEM_BYTES[info.dtype]
    mine, theirs = np.empty((2, min(length, info.count) * size), np.uint8)
    for start in range(0, info.count, length):
        stop = min(start + length, info.count)
        first.read(name, start, stop, mine)
        second.read(other, start, stop, theirs)
        used = (stop - start) * size
        if not np.array_equal(mine[:used], theirs[:used]):
            return False
    return True
