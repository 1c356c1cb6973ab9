"""What SAM did: steps, ascents, backward passes, and steps that were skipped."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class SamSummary:
    """What SAM did.

    Attributes:
        mode: Of the ascent in force: `per-replica` or `synchronised`.
        steps: Of the optimizer, with those that were skipped.
        ascents: Steps whose gradient is that of perturbed weights.
        backward_passes: Of this process, over micro-batches.
        skipped: Steps that were not made because a loss or gradient was not finite.
        skipped_in_a_row: The last of these, if no step was made since.

    Example:
        >>> SamSummary("per-replica", steps=10, ascents=2, backward_passes=12).ascents
        2
    """

    mode: str
    steps: int = 0
    ascents: int = 0
    backward_passes: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0

    def passed(self) -> SamSummary:
        """Copy with one more backward pass."""
        return replace(self, backward_passes=self.backward_passes + 1)

    def stepped(self, *, climbed: bool, finite: bool) -> SamSummary:
        """Copy with one more step."""
        return replace(
            self,
            steps=self.steps + 1,
            ascents=self.ascents + climbed,
            skipped=self.skipped + (not finite),
            skipped_in_a_row=0 if finite else self.skipped_in_a_row + 1,
        )
