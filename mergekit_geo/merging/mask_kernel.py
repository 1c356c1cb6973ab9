"""What merging task vectors element by element is made of, and where it runs.

The size of an element is the magnitude of its difference from the base as a float32. Its key is
that float32's bits, which have the order of the sizes, so that selection is by whole numbers. Keys
are uint32 arrays, masks uint8 arrays of 0 and 1, one element a tensor's element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mergekit_geo.geometry.masked import How, Sizes
from mergekit_geo.merging.kernels import Chunk

Keys = NDArray[np.uint32]
Mask = NDArray[np.uint8]

KEY_BITS = 31
"""A key has no sign."""

CERTAIN = 1 << 32
"""A chance of one, in the units that random numbers have."""

DRAWN = 128
"""Block size of a random stream: the first numbers of 128 counters, then their second ones, ..."""


@dataclass(frozen=True)
class Digit:
    """A part of a key.

    Attributes:
        shift: Bits below it.
        bits: Its own.
    """

    shift: int
    bits: int


DIGITS = (Digit(15, 16), Digit(0, 15))
"""A key as two digits, the first exponent and eight bits of the mantissa."""


@dataclass(frozen=True)
class Bounds:
    """The keys between which elements are kept.

    Attributes:
        low: Keys above are kept.
        high: Keys below are kept.
        low_ties: Of the elements whose key is `low`, the first that is kept and the one after
            the last.
        high_ties: The same of those whose key is `high`.
    """

    low: int
    high: int
    low_ties: tuple[int, int]
    high_ties: tuple[int, int] = (0, 0)


class MaskKernel(Protocol):
    """An implementation of the mask operations; several threads call it at a time."""

    def sizes(self, base: Chunk, model: Chunk, keys: Keys) -> None:
        """Keys of the elements of model - base."""

    def spreads(self, models: Sequence[Chunk], keys: Keys) -> None:
        """Keys of the elements' variances over the models."""

    def tally(self, keys: Keys, digit: Digit, prefix: int, counts: NDArray[np.int64]) -> None:
        """Count the values of a digit, of the keys whose higher digits are `prefix`."""

    def between(self, keys: Keys, bounds: Bounds, met: NDArray[np.int64], mask: Mask) -> None:
        """Mask by bounds; `met` counts the ties at either bound so far, and goes on counting."""

    def draw(self, seed: int, start: int, chance: float | Keys, mask: Mask) -> None:
        """Mask at random.

        Args:
            seed: Key of the stream of random numbers, 64 bits.
            start: Place in it of the first element.
            chance: Of being kept: one below 1 for all, or each its own in units of 2^-32.
            mask: Filled.
        """

    def chances(self, keys: Keys, columns: int, low: float, high: float, out: Keys) -> None:
        """Chances in units of 2^-32, from `low` to `high` by rank in each row of keys."""

    def measure(self, base: Chunk, model: Chunk, mask: Mask | None) -> Sizes:
        """Sums over model - base."""

    def add(
        self, anchors: Sequence[Chunk], masks: Sequence[Mask | None], how: How, out: Chunk
    ) -> None:
        """Overwrite `out` with the base and the sum of what is kept; no mask keeps everything."""
