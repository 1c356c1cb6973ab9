"""How far the loss rises near a model: the worst cases that were found, and under noise."""

from __future__ import annotations

from torch import Tensor

from mergekit_geo.curvature.adaptive import average_sharpness
from mergekit_geo.curvature.ascent import projected_ascent
from mergekit_geo.curvature.extremes import EXTREMES
from mergekit_geo.curvature.levels import EVALUATION, Level
from mergekit_geo.curvature.measure import LocalLoss, Measure
from mergekit_geo.curvature.slope import SLOPE
from mergekit_geo.records.curvature import AscentEntry


def _ascent(at: LocalLoss) -> AscentEntry:
    loss, gradients, radii, level = at.loss, at.gradients, at.radii, at.level
    size = loss.weights.vector().abs()

    def climb(rho: float, scale: Tensor | None) -> float:
        return projected_ascent(
            loss, gradients.gradient, gradients.loss, rho,
            steps=level.ascent_steps, restarts=level.restarts, seed=at.seed, scale=scale,
        )  # fmt: skip

    mean = average_sharpness(
        loss, gradients.loss, radii.noise, draws=level.draws, seed=at.seed, scale=size
    )
    return AscentEntry(
        ascent=climb(radii.rho, None),
        adaptive_worst=climb(radii.adaptive, size),
        adaptive_mean=mean.value,
        adaptive_error=mean.standard_error,
    )


def _ascent_cost(level: Level) -> float:
    return 2 * level.restarts * level.ascent_steps + EVALUATION * 2 * level.draws


ASCENT = Measure(
    "ascent", _ascent, AscentEntry, when=lambda level: level.ascent_steps > 0, cost=_ascent_cost
)


def _largest_rise(at: LocalLoss) -> float | None:
    """The best of what was tried; None where the loss is not finite somewhere."""
    along, rises = at.of(EXTREMES).along, [at.of(SLOPE).one_step]
    rises += [at.of(ASCENT).ascent] if ASCENT.when(at.level) else []
    rises += [] if along is None else [along]
    known = [rise for rise in rises if rise is not None]
    return max(known) if len(known) == len(rises) else None


SAM_SHARPNESS = Measure("sam_sharpness", _largest_rise)
