"""Whether sums of finite elements can leave a dtype's range, and how many did.

What is known of a tensor, its inner products, bounds every element: for weights as networks have
them the bound is far below any dtype's largest number, and nothing need be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.masked import How, Joined, Near
from mergekit_geo.geometry.rule import ModelWeights
from mergekit_geo.merging.kernels import EXPONENTS, Chunk

LARGEST = {
    "F16": 65504.0,
    "BF16": (2 - 2**-7) * 2.0**127,
    "F32": (2 - 2**-23) * 2.0**127,
    "F64": (2 - 2**-52) * 2.0**1023,
}
"""The largest finite number of each dtype."""

HALVES = ("BF16", "F16")

TINY = 1e-12
"""Added to a norm: squares below a float32's range were summed as zeros."""

ROUNDING = 1.01
"""What the errors of all sums together stay below."""


def reach(gram: Gram, coefficients: Sequence[float]) -> float:
    """What no element, and no part of its sum, of a combination of anchors exceeds.

    >>> round(reach(Gram.of(np.array([[3.0, 4.0], [3.0, 6.0]])), (1.0, -2.0)), 3)
    19.19
    """
    norms = _norms(gram)
    sizes = (norms[0], *(norms[0] + norm for norm in norms[1:]))
    return ROUNDING * sum(abs(c) * size for c, size in zip(coefficients, sizes, strict=True) if c)


def reach_of_sum(gram: Gram, how: How) -> float:
    """Upper bound of the elements and partial sums of a base plus masked task vectors."""
    base, *moved = _norms(gram)
    if isinstance(how, Near | Joined):
        factors = how.factors if isinstance(how, Joined) else ()
        return ROUNDING * (base + max((1.0, *factors)) * sum(moved))
    total, ballot = _weighed(how.factors, moved), _weighed(how.votes or (), moved)
    merged = base + abs(how.scale) * total * _growth(how.weights)
    return ROUNDING * max(merged, ballot, abs(how.scale), sum(map(abs, how.weights or ())))


def lost(anchors: Sequence[Chunk], out: Chunk) -> NDArray[np.bool_]:
    """Which elements are finite in every anchor and not in what was made of them: (n,)."""
    there = reduce(np.logical_and, [~_nonfinite(anchor) for anchor in anchors])
    return np.asarray(there & _nonfinite(out))


def needs_width(anchors: Sequence[Chunk], out: Chunk) -> bool:
    """Whether a kernel sums these in float32, whose range is not much wider than theirs."""
    return all(chunk.dtype in HALVES for chunk in (*anchors, out))


def widened(chunk: Chunk) -> Chunk:
    """Convert a chunk to float64: then all that is summed with it is summed in float64."""
    return Chunk(chunk.values.astype(np.float64).view(np.uint8), "F64")


def _norms(gram: Gram) -> list[float]:
    """Norms of the first anchor and of the others' differences from it."""
    return [square**0.5 + TINY for square in gram.differences.diagonal().tolist()]


def _weighed(weights: ModelWeights, norms: Sequence[float]) -> float:
    return sum(abs(w) * norm for w, norm in zip(weights, norms, strict=False))


def _growth(weights: ModelWeights | None) -> float:
    """What dividing by the weights of those that count multiplies by, at the most."""
    signed = [weight for weight in weights or () if weight]
    if not signed:
        return 1.0
    if min(signed) < 0 < max(signed):
        return float("inf")  # what counts may cancel
    return max(1.0, 1 / min(map(abs, signed)))


def _nonfinite(chunk: Chunk) -> NDArray[np.bool_]:
    mask = EXPONENTS[chunk.dtype]
    return np.asarray((chunk.data.view(mask.dtype) & mask) == mask)
