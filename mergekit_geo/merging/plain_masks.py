"""Masks and sums in numpy, where no compiler made the native ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mergekit_geo.geometry.masked import How, Joined, Near, Sizes, Sum
from mergekit_geo.geometry.rule import ModelWeights
from mergekit_geo.merging.kernels import Chunk
from mergekit_geo.merging.mask_kernel import CERTAIN, DRAWN, Bounds, Digit, Keys, Mask
from mergekit_geo.merging.torch_kernel import store

HALVES = ("BF16", "F16")
LOW = 0xFFFFFFFF
PARITY = 0x1BD11BDA
TURNS = ((13, 15, 26, 6), (17, 29, 16, 24))
Values = NDArray[np.floating[Any]]

_beyond_range = np.errstate(over="ignore", invalid="ignore")
"""Infinities are looked for where they matter, and counted."""


class PlainMasks:
    """The arithmetic of `masks.c`, operation by operation but for the order of sums."""

    @_beyond_range
    def sizes(self, base: Chunk, model: Chunk, keys: Keys) -> None:
        """Keys of the elements of model - base."""
        origin, row = _rows([base, model], _width([base, model]))
        keys[:] = _keys(np.abs(row - origin))

    @_beyond_range
    def spreads(self, models: Sequence[Chunk], keys: Keys) -> None:
        """Keys of the elements' variances over the models."""
        rows = [model.values.astype(np.float64) for model in models]
        moved = [row - rows[0] for row in rows]
        mean = sum(moved) / len(rows)
        spread = sum(row * row for row in moved) / len(rows) - mean * mean
        keys[:] = _keys(np.maximum(spread, 0))

    def tally(self, keys: Keys, digit: Digit, prefix: int, counts: NDArray[np.int64]) -> None:
        """Count the values of a digit, of the keys whose higher digits are `prefix`."""
        begun = keys >> np.uint32(digit.shift)
        digits = begun[begun >> np.uint32(digit.bits) == prefix] & np.uint32((1 << digit.bits) - 1)
        counts += np.bincount(digits, minlength=len(counts))

    def between(self, keys: Keys, bounds: Bounds, met: NDArray[np.int64], mask: Mask) -> None:
        """Mask by bounds."""
        mask[:] = (keys > bounds.low) & (keys < bounds.high)
        same = bounds.low == bounds.high
        for side, (key, (first, stop)) in enumerate(
            [(bounds.low, bounds.low_ties), (bounds.high, bounds.high_ties)][: 1 if same else 2]
        ):
            ties = np.flatnonzero(keys == key)
            number = met[side] + np.arange(len(ties))
            mask[ties] = (first <= number) & (number < stop)
            met[side] += len(ties)

    def draw(self, seed: int, start: int, chance: float | Keys, mask: Mask) -> None:
        """Mask at random."""
        below = np.uint32(chance * CERTAIN) if isinstance(chance, float) else chance
        mask[:] = numbers(seed, start, len(mask)) < below

    def chances(self, keys: Keys, columns: int, low: float, high: float, out: Keys) -> None:
        """Chances by rank in each row of keys."""
        order = np.argsort(keys.reshape(-1, columns), axis=1, kind="stable")
        share = np.arange(columns) / (columns - 1) if columns > 1 else np.full(1, 0.5)
        steps = ((low + share * (high - low)) * 2**32).astype(np.uint32)
        np.put_along_axis(out.reshape(order.shape), order, steps[None], axis=1)

    @_beyond_range
    def measure(self, base: Chunk, model: Chunk, mask: Mask | None) -> Sizes:
        """Sums over model - base."""
        moved = model.values.astype(np.float64) - base.values
        kept = moved if mask is None else moved * mask
        size, left = float(np.abs(moved).sum()), float(np.abs(kept).sum())
        return Sizes(size, left, float(kept @ kept), len(moved))

    @_beyond_range
    def add(
        self, anchors: Sequence[Chunk], masks: Sequence[Mask | None], how: How, out: Chunk
    ) -> None:
        """Overwrite `out` with the base and the sum of what is kept."""
        base, *rows = _rows(anchors, _width([*anchors, out]))
        moved = [
            row - base if mask is None else np.where(mask, row - base, 0)
            for row, mask in zip(rows, masks, strict=True)
        ]
        step: Values
        match how:
            case Sum():
                step = base.dtype.type(how.scale) * _weighed(moved, how)
            case Near(reach):
                step = _cut(moved[0], reach)
            case Joined(factors):
                step = _joined(moved, factors)
        merged = np.where(step != 0, base + step, base)
        store(torch.from_numpy(merged.astype(np.float64)), out)


def _cut(moved: Values, reach: float) -> Values:
    """Steps that end after so far, where sizes below 1e-6 are taken for that."""
    real = moved.dtype.type
    share = real(reach) / np.maximum(np.abs(moved), real(1e-6))
    return np.asarray(np.minimum(share, real(1)) * moved)


def _joined(moved: Sequence[Values], factors: ModelWeights) -> Values:
    """Sum what counts: alone times its factor, together the mean."""
    real = moved[0].dtype.type
    met = reduce(np.add, [(row != 0).astype(real) for row in moved])
    alone = reduce(np.add, [real(f) * row for f, row in zip(factors, moved, strict=True)])
    return np.where(met == 1, alone, reduce(np.add, moved) / np.maximum(met, real(1)))


def _weighed(moved: Sequence[Values], how: Sum) -> Values:
    """The sum of what counts, over the sum of its weights where it is divided."""
    total, share = _summed(moved, how)
    return total if share is None else np.divide(total, share, out=total, where=share != 0)


def _summed(moved: Sequence[Values], how: Sum) -> tuple[Values, Values | None]:
    """The sum of what counts, and of its weights."""
    real = moved[0].dtype.type
    total, share = np.zeros_like(moved[0]), np.zeros_like(moved[0])
    ballot = sum(real(v) * row for v, row in zip(how.votes or (), moved, strict=False))
    for j, row in enumerate(moved):
        counts: Any = True
        if how.votes is not None:
            vote = real(how.votes[j]) * row
            counts = np.where(ballot >= 0, vote, -vote) > 0
        total += np.where(counts, real(how.factors[j]) * row, 0)
        share += np.where(counts, real(how.weights[j]), 0) if how.weights else 0
    return total, share if how.weights else None


def numbers(seed: int, start: int, count: int) -> Keys:
    """Random numbers of a seed's stream, from position `start` on."""
    group = 2 * DRAWN
    first, stop = start // group, -(-(start + count) // group)
    made = threefry(seed, first * DRAWN, (stop - first) * DRAWN)
    placed = made.reshape(-1, DRAWN, 2).transpose(0, 2, 1).ravel()
    return placed[start - first * group :][:count]


def threefry(seed: int, counter: int, count: int) -> NDArray[np.uint32]:
    """Threefry-2x32-20 (Salmon 2011): `count` rows of two numbers, from `counter` on."""
    places = np.uint64(counter) + np.arange(count, dtype=np.uint64)
    low, high = seed & LOW, seed >> 32
    keys = (low, high, PARITY ^ low ^ high)
    x = places.astype(np.uint32) + np.uint32(low)
    y = (places >> np.uint64(32)).astype(np.uint32) + np.uint32(high)
    for group in range(1, 6):
        for turn in TURNS[group % 2 == 0]:
            x += y
            y = (y << np.uint32(turn) | y >> np.uint32(32 - turn)) ^ x
        x += np.uint32(keys[group % 3])
        y += np.uint32(keys[(group + 1) % 3] + group & LOW)
    return np.stack([x, y], axis=1)


def _keys(sizes: Values) -> Keys:
    return sizes.astype(np.float32).view(np.uint32) & np.uint32(0x7FFFFFFF)


def _width(chunks: Sequence[Chunk]) -> type[np.floating[Any]]:
    """What is reckoned with: float32 if all are halves, else float64."""
    return np.float32 if all(chunk.dtype in HALVES for chunk in chunks) else np.float64


def _rows(chunks: Sequence[Chunk], width: type[np.floating[Any]]) -> list[Values]:
    return [chunk.values.astype(width) for chunk in chunks]
