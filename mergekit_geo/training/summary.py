"""What SAM did, for a log or a report."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class SamSummary:
    """What SAM did.

    Attributes:
        mode: Of the ascent in force: `per-replica` or `synchronised`.
        steps: Of the optimizer, with those that were skipped.
        ascents: Steps that climbed first.
        backward_passes: Of this process, over micro-batches.
        skipped: Steps that were not made because a loss or gradient was not finite.
    """

    mode: str
    steps: int = 0
    ascents: int = 0
    backward_passes: int = 0
    skipped: int = 0

    def plus(
        self, *, steps: int = 0, ascents: int = 0, backward_passes: int = 0, skipped: int = 0
    ) -> SamSummary:
        """With so many more."""
        return replace(
            self,
            steps=self.steps + steps,
            ascents=self.ascents + ascents,
            backward_passes=self.backward_passes + backward_passes,
            skipped=self.skipped + skipped,
        )
