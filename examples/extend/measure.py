"""A measure of sharpness: the noise scale of the gradient.

python examples/extend/measure.py sharpness a b --data held-out.jsonl -o out
"""

from __future__ import annotations

from typing import Annotated

from mergekit_geo.cli.app import main
from mergekit_geo.curvature.measure import LocalLoss, Measure
from mergekit_geo.curvature.table import MEASURES
from mergekit_geo.modules.vectors import norm
from mergekit_geo.records import Record
from mergekit_geo.records.curvature import Titled


class NoiseScale(Record):
    """How many batches have to be averaged before their gradient is more signal than noise.

    Attributes:
        value: tr(Σ) / |g|², the simple noise scale of McCandlish (2018), in batches; tables and
            pictures show what has a title.
        batches: How many it was estimated on.
    """

    value: Annotated[float, Titled("noise scale")]
    batches: int


def noise_scale(at: LocalLoss) -> NoiseScale:
    """Estimate it from the norms of single batches' gradients, and of their mean (appendix A.1)."""
    count = len(at.loss.batches)
    norms = [norm(at.loss.part(i, count).gradient()[1]) ** 2 for i in range(count)]
    single, whole = sum(norms) / count, at.gradients.norm**2
    signal = (count * whole - single) / (count - 1)
    return NoiseScale(value=(single - whole) / (1 - 1 / count) / signal, batches=count)


# What it costs, in gradients of the whole sample, for the budget.
NOISE_SCALE = Measure("noise_scale", noise_scale, NoiseScale, cost=lambda level: 1.0)

MEASURES[NOISE_SCALE.key] = NOISE_SCALE  # the line in the table

if __name__ == "__main__":
    main()
