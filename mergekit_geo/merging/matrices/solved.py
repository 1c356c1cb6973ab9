"""The merged task matrix of a method."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Solved:
    """A merged task matrix.

    Attributes:
        matrix: What is added to the base, (m, n).
        error: The largest relative error of what it was made of.
        how: What was special; empty where nothing was.
    """

    matrix: Tensor
    error: float
    how: str = ""
