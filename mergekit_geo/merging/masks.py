"""Which elements of one tensor's task vector are kept: masks, found in bounded memory.

Selection by rank is exact and sorts nothing: a first look at the keys counts their high digits, a
second the low digits of those at the threshold, and then both the threshold and how many of the
elements that equal it are kept are known. Random masks are numbers of a counter (Threefry), keyed
by seed, tensor and model: they do not depend on who works on what, and in which order.
"""

from __future__ import annotations

import hashlib
from math import prod
from typing import Protocol

import numpy as np

from mergekit_geo.geometry.masked import Keep, Largest, Middle, Random, Ranked, Spread
from mergekit_geo.merging.mask_kernel import DIGITS, KEY_BITS, Bounds, Keys, Mask, MaskKernel

MOST_KEPT = 1 << 27
"""Elements of a tensor whose masks are remembered, 16 MB each; those of larger ones are found
again."""

NO_KEY = 1 << KEY_BITS
"""Larger than any key."""


class Masker(Protocol):
    """The mask of one task vector."""

    @property
    def looks(self) -> int:
        """How often it must see all keys before it can say what is kept."""

    @property
    def needs_keys(self) -> bool:
        """Whether it must see them when it says so."""

    def look(self, keys: Keys) -> None:
        """See the next stretch of keys."""

    def settle(self) -> None:
        """All keys were seen once more."""

    def begin(self) -> None:
        """Masks are asked for from the first stretch on."""

    def fill(self, start: int, keys: Keys, mask: Mask) -> None:
        """The mask of the next stretch, which begins with element `start`."""


def masker_for(
    keep: Keep, kernel: MaskKernel, shape: tuple[int, ...], stream: str
) -> Masker | None:
    """What makes the masks of a tensor; None where everything is kept.

    Args:
        keep: Of one task vector.
        kernel: Does the arithmetic.
        shape: Of the tensor.
        stream: Names the random numbers: seed, model and tensor.
    """
    count = prod(shape)
    if keep.density >= 1 or count == 0:
        return None
    share = int(keep.density * count)
    match keep:
        case Largest():
            return Ranks(kernel, count, count - max(1, share), count, first_come=True)
        case Middle():
            least = max(0, count - share - int(keep.gamma * count))
            return Ranks(kernel, count, least, least + share)
        case Spread():
            return Moved(kernel, count, keep.density)
        case Random():
            return Drawn(kernel, seed_of(stream), keep.density)
        case Ranked():
            columns = shape[-1] if shape else 1
            low, high = keep.density - keep.epsilon, keep.density + keep.epsilon
            return DrawnByRank(kernel, seed_of(stream), columns, low, high)
    raise TypeError(keep)


def remembered(masker: Masker | None, shape: tuple[int, ...]) -> Masker | None:
    """One whose masks are made once, if the tensor is not too large for that."""
    return Kept(masker) if masker and prod(shape) <= MOST_KEPT else masker


def seed_of(stream: str) -> int:
    """64 bits that a name stands for."""
    return int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=8).digest(), "little")


class Threshold:
    """The key at a rank, found digit by digit.

    Args:
        rank: From 0, the smallest; equal keys have the ranks of their order.

    Attributes:
        key: What is known of the key: first nothing, then a digit, then all.
        ties: How many elements with that key have lower ranks.
        equal: How many have it.
    """

    def __init__(self, rank: int) -> None:
        self.key, self.ties, self.equal = 0, rank, 0
        self._digits = iter(DIGITS)
        self._turn()

    def _turn(self) -> None:
        self.digit = next(self._digits, None)
        self.counts = np.zeros(1 << self.digit.bits if self.digit else 0, np.int64)

    def look(self, kernel: MaskKernel, keys: Keys) -> None:
        """Count the next digit."""
        assert self.digit
        kernel.tally(keys, self.digit, self.key, self.counts)

    def settle(self) -> None:
        """Know the digit."""
        assert self.digit
        ends = np.cumsum(self.counts)
        found = int(np.searchsorted(ends, self.ties, side="right"))
        self.equal = int(self.counts[found])
        self.ties -= int(ends[found]) - self.equal
        self.key = self.key << self.digit.bits | found
        self._turn()


class Ranks:
    """Keeps the elements whose ranks by size lie in a range.

    Args:
        kernel: Does the arithmetic.
        count: Number of elements.
        first: Rank of the smallest that is kept.
        stop: The rank after the largest.
        first_come: Of elements that equal the smallest the first are kept, not the last.
    """

    looks, needs_keys = 2, True

    def __init__(
        self, kernel: MaskKernel, count: int, first: int, stop: int, *, first_come: bool = False
    ) -> None:
        self.kernel, self.first_come = kernel, first_come
        self._low = Threshold(first) if first < stop else None
        self._high = Threshold(stop) if self._low and stop < count else None

    def look(self, keys: Keys) -> None:
        """Count a digit."""
        for end in (self._low, self._high):
            if end:
                end.look(self.kernel, keys)

    def settle(self) -> None:
        """Know it."""
        for end in (self._low, self._high):
            if end:
                end.settle()

    def begin(self) -> None:
        """No ties were met."""
        self._met = np.zeros(2, np.int64)
        self._bounds = self._found()

    def fill(self, start: int, keys: Keys, mask: Mask) -> None:
        """By bounds."""
        self.kernel.between(keys, self._bounds, self._met, mask)

    def _found(self) -> Bounds:
        low, high = self._low, self._high
        if low is None:
            return Bounds(NO_KEY, 0, (0, 0))
        ties = (0, low.equal - low.ties) if self.first_come else (low.ties, low.equal)
        if high is None:
            return Bounds(low.key, NO_KEY, ties)
        if high.key == low.key:
            return Bounds(low.key, low.key, (low.ties, high.ties))
        return Bounds(low.key, high.key, ties, (0, high.ties))


class Moved(Ranks):
    """Keeps a share of the elements that are not zero, the largest.

    Args:
        kernel: Does the arithmetic.
        count: Number of elements.
        density: The share.
    """

    def __init__(self, kernel: MaskKernel, count: int, density: float) -> None:
        super().__init__(kernel, count, 0, count, first_come=True)
        self.count, self.density, self._nonzero = count, density, 0
        self._ranked = False

    def look(self, keys: Keys) -> None:
        """Count a digit, and at first what is not zero."""
        if not self._ranked:
            self._nonzero += int(np.count_nonzero(keys))
        super().look(keys)

    def settle(self) -> None:
        """Know it; at first also which rank is meant."""
        if not self._ranked:
            self._rank(int(self._nonzero * self.density))
        super().settle()

    def _rank(self, kept: int) -> None:
        assert self._low
        self._low.ties = self.count - kept
        self._low = self._low if kept else None
        self._ranked = True


class Drawn:
    """Keeps elements at random.

    Args:
        kernel: Does the arithmetic.
        seed: Of the stream of random numbers.
        chance: Of each.
    """

    looks, needs_keys = 0, False

    def __init__(self, kernel: MaskKernel, seed: int, chance: float) -> None:
        self.kernel, self.seed, self.chance = kernel, seed, chance

    def look(self, keys: Keys) -> None:
        """Nothing to see."""

    def settle(self) -> None:
        """Nothing to know."""

    def begin(self) -> None:
        """Nothing to forget."""

    def fill(self, start: int, keys: Keys, mask: Mask) -> None:
        """By the numbers of the elements' places."""
        self.kernel.draw(self.seed, start, self.chance, mask)


class DrawnByRank(Drawn):
    """Keeps elements at random, the larger of their row rather.

    Args:
        kernel: Does the arithmetic.
        seed: Of the stream of random numbers.
        columns: Elements of a row; stretches are whole rows.
        low: Chance of the smallest.
        high: Chance of the largest.
    """

    needs_keys = True

    def __init__(
        self, kernel: MaskKernel, seed: int, columns: int, low: float, high: float
    ) -> None:
        super().__init__(kernel, seed, 0.0)
        self.columns, self.low, self.high = columns, low, high

    def fill(self, start: int, keys: Keys, mask: Mask) -> None:
        """By the numbers of the elements' places, and their ranks."""
        chances = np.empty_like(keys)
        self.kernel.chances(keys, self.columns, self.low, self.high, chances)
        self.kernel.draw(self.seed, start, chances, mask)


class Kept:
    """Remembers masks, a bit an element, so that a second pass need not find them again.

    Args:
        masker: Makes them.
    """

    def __init__(self, masker: Masker) -> None:
        self.masker, self.looks = masker, masker.looks
        self._packed: dict[int, Mask] = {}

    @property
    def needs_keys(self) -> bool:
        """Whether they are still to be made."""
        return self.masker.needs_keys and not self._whole

    def look(self, keys: Keys) -> None:
        """As the masker."""
        self.masker.look(keys)

    def settle(self) -> None:
        """As the masker."""
        self.masker.settle()

    def begin(self) -> None:
        """What was made before is what will be asked for."""
        self._whole = bool(self._packed)
        if not self._whole:
            self.masker.begin()

    def fill(self, start: int, keys: Keys, mask: Mask) -> None:
        """From memory, if it is there."""
        if self._whole:
            mask[:] = np.unpackbits(self._packed[start], count=len(mask), bitorder="little")
        else:
            self.masker.fill(start, keys, mask)
            self._packed[start] = np.packbits(mask, bitorder="little")
