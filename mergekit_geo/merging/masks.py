"""Which elements of one tensor's task vector are kept: masks, found in bounded memory.

Those by rank are in `ranks`. Random ones are numbers of a counter (Threefry), keyed by seed, tensor
and model: they do not depend on who works on what, and in which order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import prod
from typing import Protocol

import numpy as np

from mergekit_geo.geometry.sparsifiers import (
    Above,
    AtRandom,
    AtRandomByRank,
    ByImportance,
    ByRank,
    ByVariance,
    Selection,
)
from mergekit_geo.merging.mask_kernel import Keys, Mask, MaskKernel
from mergekit_geo.merging.ranks import Moved, Outlying, Ranks, above

MOST_KEPT = 1 << 27
"""Elements of a tensor whose masks are remembered, 16 MB each; those of larger ones are found
again."""


class Masker(Protocol):
    """The mask of one task vector."""

    @property
    def looks(self) -> int:
        """How often it must see all keys before it can say what is kept."""

    @property
    def needs_keys(self) -> bool:
        """Whether it must see them when it says so."""

    @property
    def order(self) -> str:
        """Name of what it can know of all keys, whatever share is kept; empty if nothing."""

    def look(self, keys: Keys) -> None:
        """See the next chunk of keys."""

    def settle(self) -> None:
        """All keys were seen once more."""

    def begin(self) -> None:
        """Masks are asked for from the first chunk on."""

    def fill(self, start: int, keys: Keys, mask: Mask) -> None:
        """The mask of the next chunk, which begins with element `start`."""


def masker_for(
    selection: Selection | None, kernel: MaskKernel, shape: tuple[int, ...], stream: str
) -> Masker | None:
    """What makes the masks of a tensor; None where everything is kept.

    Args:
        selection: What is kept of one task vector.
        kernel: Does the arithmetic.
        shape: Of the tensor.
        stream: Names the random numbers: seed, model and tensor.
    """
    match selection:
        case AtRandom(chance):
            return Drawn(kernel, seed_of(stream), chance)
        case AtRandomByRank(low, high):
            columns = shape[-1] if shape else 1
            return DrawnByRank(kernel, seed_of(stream), columns, low, high)
        case None:
            return None
    return _by_keys(selection, kernel, prod(shape))


def _by_keys(
    selection: ByRank | ByVariance | ByImportance | Above, kernel: MaskKernel, count: int
) -> Masker:
    match selection:
        case ByRank(first, stop, first_come):
            return Ranks(kernel, count, first, stop, first_come=first_come)
        case ByVariance(share):
            return Moved(kernel, count, share)
        case ByImportance():
            return Outlying(kernel, count)
    return Exceeding(kernel, selection.limit)


def remembered(
    masker: Masker | None, shape: tuple[int, ...], packed: Mapping[int, Mask] | None = None
) -> Masker | None:
    """One whose masks are made once, or known, if the tensor is not too large for that."""
    return CachedMasker(masker, packed) if masker and prod(shape) <= MOST_KEPT else masker


def seed_of(stream: str) -> int:
    """64 bits that a name stands for."""
    return int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=8).digest(), "little")


class Orderly(Masker, Protocol):
    """One that need not see keys whose order it knows."""

    def ordered(self, keys: Keys) -> Keys:
        """What is known of all keys of a tensor."""

    def know(self, ordered: Keys) -> None:
        """Be told what was known before."""


class Exceeding:
    """Keeps the elements that are larger than a limit.

    Args:
        kernel: Does the arithmetic.
        limit: Of their size.
    """

    looks, needs_keys, order = 0, True, ""

    def __init__(self, kernel: MaskKernel, limit: float) -> None:
        self.kernel, self._bounds = kernel, above(limit)

    def look(self, keys: Keys) -> None:
        """Do nothing: the limit does not depend on keys."""

    def settle(self) -> None:
        """Do nothing: the limit is known."""

    def begin(self) -> None:
        """Do nothing: no state is kept."""

    def fill(self, start: int, keys: Keys, mask: Mask) -> None:
        """Write the mask of the elements whose keys are above the limit's."""
        self.kernel.between(keys, self._bounds, np.zeros(2, np.int64), mask)


class Drawn:
    """Keeps elements at random.

    Args:
        kernel: Does the arithmetic.
        seed: Of the stream of random numbers.
        chance: Of each.
    """

    looks, needs_keys, order = 0, False, ""

    def __init__(self, kernel: MaskKernel, seed: int, chance: float) -> None:
        self.kernel, self.seed, self.chance = kernel, seed, chance

    def look(self, keys: Keys) -> None:
        """Do nothing: random masks do not depend on keys."""

    def settle(self) -> None:
        """Do nothing: random masks need no pass over the keys."""

    def begin(self) -> None:
        """Do nothing: random masks keep no state."""

    def fill(self, start: int, keys: Keys, mask: Mask) -> None:
        """Draw the mask by each element's random number, which its position determines."""
        self.kernel.draw(self.seed, start, self.chance, mask)


class DrawnByRank(Drawn):
    """Keeps elements at random, the larger of their row rather.

    Args:
        kernel: Does the arithmetic.
        seed: Of the stream of random numbers.
        columns: Elements of a row; chunks are whole rows.
        low: Chance of the smallest.
        high: Chance of the largest.
    """

    order = "ranks in rows"

    def __init__(
        self, kernel: MaskKernel, seed: int, columns: int, low: float, high: float
    ) -> None:
        super().__init__(kernel, seed, 0.0)
        self.columns, self.low, self.high = columns, low, high
        self.needs_keys = True
        self._ranks = np.empty(0, np.uint32)

    def ordered(self, keys: Keys) -> Keys:
        """The rank of every key in its row."""
        order = np.argsort(keys.reshape(-1, self.columns), axis=1, kind="stable")
        ranks = np.empty(order.shape, np.uint32)
        np.put_along_axis(ranks, order, np.arange(self.columns, dtype=np.uint32)[None], axis=1)
        return ranks.reshape(-1)

    def know(self, ordered: Keys) -> None:
        """Need no keys, as their ranks are known."""
        self._ranks, self.needs_keys = ordered, False

    def fill(self, start: int, keys: Keys, mask: Mask) -> None:
        """Draw the mask by each element's random number, with chances by rank in its row."""
        if self.needs_keys:
            chances = np.empty_like(keys)
            self.kernel.chances(keys, self.columns, self.low, self.high, chances)
        else:
            steps = np.empty(self.columns, np.uint32)
            ranks = np.arange(self.columns, dtype=np.uint32)
            self.kernel.chances(ranks, self.columns, self.low, self.high, steps)
            chances = steps[self._ranks[start : start + len(mask)]]
        self.kernel.draw(self.seed, start, chances, mask)


class CachedMasker:
    """Remembers masks, a bit an element, so that a second pass need not find them again.

    Args:
        masker: Makes them.
        packed: Those of all chunks by their first elements, where they are known.
    """

    def __init__(self, masker: Masker, packed: Mapping[int, Mask] | None = None) -> None:
        self.masker, self.looks, self.order = masker, 0 if packed else masker.looks, masker.order
        self.packed = dict(packed or {})
        self._whole = False

    @property
    def nbytes(self) -> int:
        """Bytes of what is remembered."""
        return sum(mask.nbytes for mask in self.packed.values())

    @property
    def needs_keys(self) -> bool:
        """Whether they are still to be made."""
        return self.masker.needs_keys and not self._whole

    def look(self, keys: Keys) -> None:
        """Pass keys to the masker."""
        self.masker.look(keys)

    def settle(self) -> None:
        """Tell the masker that a pass over all keys is over."""
        self.masker.settle()

    def begin(self) -> None:
        """What was made before is what will be asked for."""
        self._whole = bool(self.packed)
        if not self._whole:
            self.masker.begin()

    def fill(self, start: int, keys: Keys, mask: Mask) -> None:
        """From memory, if it is there."""
        if self._whole:
            mask[:] = np.unpackbits(self.packed[start], count=len(mask), bitorder="little")
        else:
            self.masker.fill(start, keys, mask)
            self.packed[start] = np.packbits(mask, bitorder="little")
