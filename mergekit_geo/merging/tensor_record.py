"""What was done to one tensor of a merge, as the journal and the report take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from mergekit_geo.geometry.gram import Gram

T = TypeVar("T")


@dataclass(frozen=True)
class TensorRecord:
    """What was done to one tensor.

    Attributes:
        branch: `linear`, `slerp`, `karcher`, `copied`, with the reason where it is an exception.
        coefficients: One factor per anchor; empty for a copy.
        gram: Inner products of the anchors, None for a tensor that is not averaged.
        nonfinite: Per anchor, how many elements are NaN or infinite.
        kept: Per task vector, how many elements are kept; empty where none are masked.
        lost: How many elements are finite in every anchor and not in the output.
        error: Relative error of what was factorised or solved; None where nothing was.
    """

    branch: str
    coefficients: tuple[float, ...] = ()
    gram: Gram | None = None
    nonfinite: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()
    lost: int = 0
    error: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON value for the journal."""
        gram = self.gram and [self.gram.differences.tolist(), self.gram.count]
        return {**vars(self), "gram": gram}

    def among(self, taken: tuple[int, ...], count: int) -> TensorRecord:
        """The record with a place for each of all anchors, of which it is about some.

        Args:
            taken: Positions of those.
            count: Number of all.

        Example:
            >>> TensorRecord("linear", (0.5, 0.5)).among((0, 2), 3).coefficients
            (0.5, 0.0, 0.5)
        """
        return replace(
            self,
            coefficients=spread(self.coefficients, taken, count, 0.0),
            nonfinite=spread(self.nonfinite, taken, count, 0),
            kept=(),
            gram=None,
        )

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> TensorRecord:
        """From what `to_json` gave."""
        gram = Gram(np.array(raw["gram"][0]), raw["gram"][1]) if raw["gram"] else None
        nonfinite, kept = (tuple(raw[key]) for key in ("nonfinite", "kept"))
        coefficients, lost = tuple(raw["coefficients"]), raw.get("lost", 0)
        return cls(raw["branch"], coefficients, gram, nonfinite, kept, lost, raw.get("error"))


def spread(values: Sequence[T], taken: Sequence[int], count: int, filler: T) -> tuple[T, ...]:
    """Values at their places among so many; none where there are none.

    >>> spread([0.5, 0.25], (2, 0), 3, 0.0)
    (0.25, 0.0, 0.5)
    """
    found = dict(zip(taken, values, strict=True)) if values else {}
    return tuple(found.get(i, filler) for i in range(count)) if values else ()
