"""Selection by rank, exact and in bounded memory: nothing is sorted.

A first look at the keys counts their high digits, a second the low digits of those at the
threshold, and then both the threshold and how many of the elements that equal it are kept are
known (a radix selection).
"""

from __future__ import annotations

import numpy as np

from mergekit_geo.merging.mask_kernel import DIGITS, KEY_BITS, Bounds, Keys, Mask, MaskKernel

NO_KEY = 1 << KEY_BITS
"""Larger than any key."""


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

    def find(self, ordered: Keys) -> None:
        """Know all of the key, from all keys in their order."""
        self.key = int(ordered[self.ties])
        first = int(np.searchsorted(ordered, np.uint32(self.key)))
        self.equal = int(np.searchsorted(ordered, np.uint32(self.key), side="right")) - first
        self.ties -= first


TIE = 2.0**-21
"""A share of a size that is lost in rounding: what is below a bound by less has reached it."""

EVERY = 1 << 62
"""More ties than there are elements."""


class Ranks:
    """Keeps the elements whose ranks by size lie in a range.

    Args:
        kernel: Does the arithmetic.
        count: Number of elements.
        first: Rank of the smallest that is kept.
        stop: The rank after the largest.
        first_come: Of elements that equal the smallest the first are kept, not the last.
    """

    needs_keys, order = True, "sizes in order"

    def __init__(
        self, kernel: MaskKernel, count: int, first: int, stop: int, *, first_come: bool = False
    ) -> None:
        self.kernel, self.first_come, self.looks = kernel, first_come, 2
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

    def ordered(self, keys: Keys) -> Keys:
        """All keys in their order."""
        return np.sort(keys)

    def know(self, ordered: Keys) -> None:
        """Need no look, as the keys in their order are known."""
        for end in (self._low, self._high):
            if end:
                end.find(ordered)
        self.looks = 0

    def begin(self) -> None:
        """No ties were met."""
        self._met = np.zeros(2, np.int64)
        self._bounds = self._found()

    def fill(self, start: int, keys: Keys, mask: Mask) -> None:
        """Write the mask of the elements whose keys lie within the bounds."""
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

    order = "variances in order"

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

    def know(self, ordered: Keys) -> None:
        """Need no look, as the keys in their order are known."""
        self._rank(int(np.count_nonzero(ordered) * self.density))
        super().know(ordered)

    def _rank(self, kept: int) -> None:
        assert self._low
        self._low.ties = self.count - kept
        self._low = self._low if kept else None
        self._ranked = True


class Outlying:
    """Keeps the elements from the median and 1.5 interquartile ranges on.

    Args:
        kernel: Does the arithmetic.
        count: Number of elements.
    """

    looks, needs_keys, order = 2, True, ""

    def __init__(self, kernel: MaskKernel, count: int) -> None:
        self.kernel = kernel
        self._quartiles = [Threshold(share * (count - 1) // 4) for share in (1, 2, 3)]

    def look(self, keys: Keys) -> None:
        """Count a digit."""
        for quartile in self._quartiles:
            quartile.look(self.kernel, keys)

    def settle(self) -> None:
        """Know it."""
        for quartile in self._quartiles:
            quartile.settle()

    def begin(self) -> None:
        """Know the bound."""
        low, middle, high = (size_of(quartile.key) for quartile in self._quartiles)
        self._bounds = at_least((1 - TIE) * (middle + 1.5 * (high - low)))

    def fill(self, start: int, keys: Keys, mask: Mask) -> None:
        """Write the mask of the elements whose keys reach the bound."""
        self.kernel.between(keys, self._bounds, np.zeros(2, np.int64), mask)


def size_of(key: int) -> float:
    """The size that a key stands for."""
    return float(np.uint32(key).view(np.float32))


def at_least(size: float) -> Bounds:
    """Bounds that keep this size and all that are larger.

    Example:
        >>> size_of(at_least(1.0).low), size_of(at_least(0.1).low) >= 0.1
        (1.0, True)
    """
    near = np.float32(size)
    up = near if float(near) >= size else np.nextafter(near, np.float32(np.inf))
    return Bounds(int(up.view(np.uint32)), NO_KEY, (0, EVERY))


def above(size: float) -> Bounds:
    """Bounds that keep all that is larger than this size.

    Example:
        >>> size_of(above(0.1).low) <= 0.1, above(0.0).low
        (True, 0)
    """
    near = np.float32(size)
    down = near if float(near) <= size else np.nextafter(near, np.float32(0.0))
    return Bounds(int(down.view(np.uint32)), NO_KEY, (0, 0))
