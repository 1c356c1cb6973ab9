"""Adding what a function makes of task vectors to the base, element by element, in numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mergekit_geo.geometry.masked import Step, Values
from mergekit_geo.merging.kernels import Chunk
from mergekit_geo.merging.mask_kernel import Mask

BLOCK = 1 << 14
"""Elements that are widened at a time, of each anchor: they stay in the cache."""


def add_step(
    step: Step,
    anchors: Sequence[Chunk],
    masks: Sequence[Mask | None],
    store: Callable[[Values, Chunk], None],
    out: Chunk,
) -> None:
    """Overwrite `out` with the base and the step that the kept elements make, in float64.

    Args:
        step: Of the method.
        anchors: The base, then the models.
        masks: What is kept of each; no mask keeps everything.
        store: Rounds to the output's dtype.
        out: Filled; the base to the bit where the step is zero.
    """
    merged = np.empty(out.count)
    for start in range(0, out.count, BLOCK):
        here = slice(start, start + BLOCK)
        base, *models = (
            anchor.part(start, start + BLOCK).values.astype(np.float64) for anchor in anchors
        )
        moved = [
            model - base if mask is None else np.where(mask[here], model - base, 0.0)
            for model, mask in zip(models, masks, strict=True)
        ]
        found = step(moved)
        merged[here] = np.where(found != 0, base + found, base)
    store(merged, out)
