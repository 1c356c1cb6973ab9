"""Models that were made to fit, and what is to be said of it."""

from __future__ import annotations

from dataclasses import dataclass

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.config.reshape import ReshapeConfig


@dataclass(frozen=True)
class Reshaped:
    """Models as a command goes on with them.

    Attributes:
        checkpoints: The models, or views of them of one shape.
        notes: What was done.
        warnings: What the user should know of it.
        config: What was asked for.
    """

    checkpoints: tuple[Checkpoint, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    config: ReshapeConfig = ReshapeConfig()

    def then(self, further: Reshaped) -> Reshaped:
        """What these were made into next, with all that was said."""
        notes, warnings = self.notes + further.notes, self.warnings + further.warnings
        return Reshaped(further.checkpoints, notes, warnings)
