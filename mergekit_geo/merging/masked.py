"""Merging one tensor element by element of the task vectors, a chunk at a time.

The tensor is read up to four times: to look for thresholds (twice), to measure what is kept, and
to write. The keys and masks of a chunk are held, and masks that two passes need, a bit an
element.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cached_property
from math import prod
from typing import cast

import numpy as np

from mergekit_geo.geometry.masked import Elementwise, How, Sizes
from mergekit_geo.geometry.sparsifiers import AtRandomByRank, ByImportance, ByVariance
from mergekit_geo.merging.importance import Importances
from mergekit_geo.merging.kernels import Chunk
from mergekit_geo.merging.mask_kernel import Keys, Mask
from mergekit_geo.merging.masks import CachedMasker, Masker, Orderly, masker_for, remembered
from mergekit_geo.merging.memo import TensorMemo
from mergekit_geo.merging.native_masks import mask_kernel
from mergekit_geo.merging.overflow import widened

Chunks = Iterator[tuple[int, list[Chunk]]]
"""Place of the first element and the anchors' chunks, the base first, one after the other."""

Anchors = Sequence[Chunk]

KEY_BYTES = 4


class MaskedTensor:
    """One tensor of a merge by elements.

    Args:
        name: Of the tensor.
        shape: Its shape.
        rule: Says what is kept, and how it is summed.
        read: Reads it, in chunks of so many elements.
        chunk: How many are wanted; whole rows are read where ranks in rows count.
        memo: What merges of the same anchors found; what this one finds is kept there.

    Attributes:
        step: How many elements are read at a time.
        kept: How many elements of each task vector were kept, known at the end of a pass.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        rule: Elementwise,
        read: Callable[[int], Chunks],
        chunk: int,
        memo: TensorMemo | None = None,
    ) -> None:
        self.rule, self.kernel, self._memo = rule, mask_kernel(), memo
        selections = [each.selection(prod(shape)) for each in rule.sparsifiers]
        self._shared = isinstance(selections[0], ByVariance)
        if self._shared:
            selections = selections[:1]
        rows = AtRandomByRank | ByImportance
        by_row = any(isinstance(selection, rows) for selection in selections)
        columns = shape[-1] if shape and by_row else 1
        self.step = max(1, chunk // max(1, columns)) * columns
        self._collected: dict[int, tuple[Orderly, dict[int, Keys]]] = {}
        self._known_by = tuple((j, each, rule.seed, self.step) for j, each in enumerate(selections))
        self._maskers = [
            self._remembered(
                masker_for(selection, self.kernel, shape, f"{rule.seed} {j} {name}"), j, shape
            )
            for j, selection in enumerate(selections)
        ]
        self._importances: Importances | None = None
        if any(isinstance(selection, ByImportance) for selection in selections):
            self._importances = Importances(prod(shape) // columns, columns)
        self._read = read
        longest = min(self.step, prod(shape))
        self._keys = np.empty(longest, np.uint32)
        self._masks = np.empty((len(selections), longest), np.uint8)
        self._sizes: list[Sizes] = (memo and memo.get(*self._sizes_known_by)) or []
        self.kept: list[int] = []

    def before(self, *, once: bool = True) -> Iterator[Iterator[Anchors]]:
        """What is to be gone through before the writing.

        Args:
            once: One pass at least.
        """
        looks = max((masker.looks for masker in self._maskers if masker), default=0)
        for _ in range(looks):
            yield self._look()
        if self.rule.needs_sizes and not self._sizes:
            yield self._measure()
        elif once and not looks:
            yield (anchors for _, anchors in self._read(self.step))

    def masks(self) -> Iterator[tuple[int, list[Chunk], list[Mask | None]]]:
        """Chunk by chunk: place, anchors, and what is kept of each task vector."""
        self.kept = [0] * len(self.rule.sparsifiers)
        for masker in self._used():
            masker.begin()
        for start, anchors in self._read(self.step):
            yield start, anchors, self._filled(start, anchors)
        self._keep()

    def add(self, masks: Sequence[Mask | None], anchors: Anchors, out: Chunk) -> None:
        """Overwrite `out` with the merged chunk."""
        self.kernel.add(anchors, masks, self.sum, out)

    @cached_property
    def sum(self) -> How:
        """How the task vectors are summed: known when the sizes are."""
        return self.rule.sum(self._sizes)

    def _used(self) -> list[Masker]:
        return [masker for masker in self._maskers if masker]

    def _remembered(
        self, masker: Masker | None, model: int, shape: tuple[int, ...]
    ) -> Masker | None:
        """One that remembers its masks, if they are needed again."""
        if self._memo is None or masker is None:
            return remembered(masker, shape) if self.rule.needs_sizes else masker
        known = self._memo.get("mask", *self._known_by[model])
        if masker.order and known is None:
            self._order(cast("Orderly", masker), model, prod(shape))
        return remembered(masker, shape, known)

    def _order(self, masker: Orderly, model: int, count: int) -> None:
        """Tell a masker the order of the keys; where it is not known, keys are collected for it."""
        assert self._memo
        ordered = self._memo.get(masker.order, model)
        if ordered is not None:
            masker.know(ordered)
        elif self._memo.has_room(KEY_BYTES * count):
            self._collected[model] = (masker, {})

    def _keep(self) -> None:
        """Keep the masks of all chunks for merges to come."""
        self._keep_order()
        for key, masker in zip(self._known_by, self._maskers, strict=True):
            if self._memo and isinstance(masker, CachedMasker):
                self._memo.keep(masker.packed, "mask", *key, nbytes=masker.nbytes)

    def _keep_order(self) -> None:
        """Keep the order of the keys that a pass has collected."""
        for model, (masker, keys) in self._collected.items():
            if self._memo and keys:
                ordered = masker.ordered(np.concatenate([*keys.values()]))
                self._memo.keep(ordered, masker.order, model, nbytes=ordered.nbytes)
        self._collected.clear()

    @property
    def _sizes_known_by(self) -> tuple[Hashable, ...]:
        return "sizes", self.rule.needs_overlaps, self._known_by

    def _look(self) -> Iterator[Anchors]:
        for start, anchors in self._read(self.step):
            for j, masker in enumerate(self._maskers):
                if masker and masker.looks:
                    masker.look(self._keys_of(j, start, anchors))
            yield anchors
        self._keep_order()
        for masker in self._used():
            if masker.looks:
                masker.settle()

    def _measure(self) -> Iterator[Anchors]:
        self._sizes = [Sizes(0.0, 0.0, 0.0, 0)] * len(self.rule.sparsifiers)
        for _, (base, *models), masks in self.masks():
            if self.rule.needs_overlaps:
                found = _overlaps(masks, base.count)
            else:
                pairs = zip(models, masks, strict=True)
                found = [self._sizes_of(base, model, mask) for model, mask in pairs]
            self._sizes = [old + new for old, new in zip(self._sizes, found, strict=True)]
            yield [base, *models]
        if self._memo:
            self._memo.keep(self._sizes, *self._sizes_known_by)

    def _sizes_of(self, base: Chunk, model: Chunk, mask: Mask | None) -> Sizes:
        """Sums for one chunk; in float64 where float32, which sums halves, overflows."""
        found = self.kernel.measure(base, model, mask)
        return found if found.is_finite else self.kernel.measure(widened(base), model, mask)

    def _keys_of(self, model: int, start: int, anchors: Anchors) -> Keys:
        """Keys of one task vector, or of all together; the next call overwrites them."""
        keys, (base, *models) = self._keys[: anchors[0].count], anchors
        if self._shared:
            self.kernel.spreads(models, keys)
        else:
            self.kernel.sizes(base, models[model], keys)
        if self._importances:
            self._importances.weigh(start, base, models[model], keys)
        if model in self._collected:
            self._collected[model][1][start] = keys.copy()
        return keys

    def _filled(self, start: int, anchors: Anchors) -> list[Mask | None]:
        found = [self._mask(j, start, anchors) for j in range(len(self._maskers))]
        masks = found * len(self.rule.sparsifiers) if self._shared else found
        counts = [anchors[0].count if m is None else int(np.count_nonzero(m)) for m in masks]
        self.kept = [old + new for old, new in zip(self.kept, counts, strict=True)]
        return masks

    def _mask(self, model: int, start: int, anchors: Anchors) -> Mask | None:
        if (masker := self._maskers[model]) is None:
            return None
        mask = self._masks[model, : anchors[0].count]
        wanted = masker.needs_keys
        keys = self._keys_of(model, start, anchors) if wanted else self._keys[: len(mask)]
        masker.fill(start, keys, mask)
        return mask


def _overlaps(masks: Sequence[Mask | None], count: int) -> list[Sizes]:
    """How many elements of each are kept with others, and alone."""
    kept = [np.ones(count, np.uint8) if mask is None else mask for mask in masks]
    once = np.sum(kept, axis=0, dtype=np.uint16) == 1
    alone = [int(np.count_nonzero(mask[once])) for mask in kept]
    every = [int(np.count_nonzero(mask)) for mask in kept]
    return [Sizes(0, 0, 0, count, a - b, b) for a, b in zip(every, alone, strict=True)]
