"""What every command returns: the report, and what is kept beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.config.requirement import NOT_WORSE, Requirement
from mergekit_geo.records.barrier import BarrierEntry
from mergekit_geo.records.report import Report
from mergekit_geo.records.standing import HOLD, holds, words_on
from mergekit_geo.views.view import said

if TYPE_CHECKING:
    from torch import Tensor

    from mergekit_geo.connectivity.paths import ModelPath


def _height(pair: BarrierEntry) -> float:
    """The least that a barrier is: infinite where no loss could be measured."""
    found = pair.barrier
    least = found.value if found.low is None else found.low
    return math.inf if least is None else least


@dataclass(frozen=True)
class Result:
    """What a command found, and what it made.

    Attributes:
        report: Every number; `report.json` holds the same, but for what came after it was written:
            `pushed`.
        out: The output folder, None where the result is kept in memory.
        state: The merged tensors by stored name, None where they are in `out`.
        modules: Beside a state in memory: those of modules after the model, by file and name.
        route: The path itself, where one was fitted.
        members: The result of each, where several models were trained.

    Example:
        >>> import torch
        >>> from mergekit_geo import soup
        >>> found = soup([{"w": torch.zeros(2)}, {"w": torch.ones(2)}], data=None)
        >>> found.out, found.state, found.report.command
        (None, {'w': tensor([0.5000, 0.5000])}, 'soup')
    """

    report: Report
    out: Path | None = None
    state: dict[str, Tensor] | None = None
    modules: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    route: ModelPath | None = None
    members: tuple[Result, ...] = ()

    @property
    def measurements(self) -> Any:
        """The record of what was found: the `result` of the report."""
        return self.report.result

    @property
    def is_not_worse(self) -> bool:
        """Whether losses tell that the output is not significantly worse than its best parent.

        False where nothing was measured, or on too few documents to tell. Of several members, each;
        and on each of several sets.
        """
        return self.holds(NOT_WORSE)

    def holds(self, requirement: str) -> bool:
        """Whether the output holds what `--require` asks for in the same words.

        Args:
            requirement: `not-worse`, of all sets, by their losses; `not-worse:code,chat` of two of
                them; `not-worse@score` by the tasks' metrics.

        Raises:
            ArgumentError: No requirement.
        """
        if self.members:
            return all(member.holds(requirement) for member in self.members)
        wanted = Requirement.parse(requirement)
        return holds(self.report, wanted.sets, wanted.by)

    def lost(self, requirement: str) -> dict[str, str]:
        """Sets on which a requirement does not hold, and the verdict there; empty of one set.

        Args:
            requirement: As `holds` takes it.
        """
        wanted = Requirement.parse(requirement)
        found: dict[str, str] = {}
        for one in self.members or (self,):
            words = words_on(one.report, wanted.sets, wanted.by)
            found |= {name: word for name, word in words.items() if name and word not in HOLD}
        return found

    def exceeds(self, limit: float | Mapping[str, float]) -> bool:
        """Whether some barrier is higher than a limit: its interval's lower end, if it has one.

        A path on which no loss could be measured counts as too high.

        Args:
            limit: In units of the loss; of each set by its name, where there are several.
        """
        sets = self.measurements.sets or {"": self.measurements}
        if not isinstance(limit, Mapping):
            limit = dict.fromkeys(sets, limit)
        return any(
            _height(pair) > most
            for name, most in limit.items()
            for pair in sets.get(name, self.measurements).pairs
        )

    @property
    def compatible(self) -> bool:
        """Whether models that were compared can be merged."""
        return bool(self.measurements.compatible)

    @property
    def url(self) -> str:
        """Where to look at what was pushed."""
        return str(self.measurements.url)

    def __str__(self) -> str:
        if self.members:
            return "\n".join(map(str, self.members))
        return said(self.report)
