"""How far the loss rises near a model: on average under noise, and in the worst cases found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, stdev

import torch
from torch import Tensor

from mergekit_geo.config.measures import check_rho
from mergekit_geo.curvature.ascent import projected_ascent
from mergekit_geo.curvature.extremes import EXTREMES
from mergekit_geo.curvature.levels import EVALUATION, Level
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.curvature.measure import LocalLoss, Measure
from mergekit_geo.curvature.slope import SLOPE
from mergekit_geo.errors import ArgumentError
from mergekit_geo.records.curvature import AscentEntry

DRAWS, FEWEST_DRAWS = 8, 2


@dataclass(frozen=True)
class AverageSharpness:
    """Average sharpness: a mean over noise.

    Attributes:
        value: The mean rise of the loss, in its unit; infinite or NaN where the loss is.
        standard_error: Of it, over the pairs; None where the mean is not finite.
    """

    value: float
    standard_error: float | None


def average_sharpness(
    loss: MeanLoss,
    at: float,
    rho: float,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    scale: Tensor | None = None,
) -> AverageSharpness:
    """The mean of L(θ + e) - L(θ) over e ~ N(0, rho^2 s^2), elementwise.

    With s = |θ| this is the average-case adaptive sharpness (Andriushchenko 2023), which
    does not change when the units of a ReLU network are rescaled; with s = 1 the plain one. Each
    draw is used with both signs, so that the gradient cancels. Two evaluations a draw (2/3
    gradient).

    Args:
        loss: L, at θ.
        at: L(θ).
        rho: Standard deviation of the noise, in units of s.
        draws: Number of pairs.
        seed: Of the noise; the same on every process.
        scale: (n,) s; None for ones.

    Raises:
        ArgumentError: The radius is not a positive number, or there are fewer than two draws.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.ones_(model.weight)
        >>> line = MeanLoss(model, [lambda model: (model.weight[0], torch.ones(1))])
        >>> abs(average_sharpness(line, 1.0, rho=0.5).value) < 1e-7
        True
    """
    check_rho(rho)
    if draws < FEWEST_DRAWS:
        raise ArgumentError(f"draws: expected at least {FEWEST_DRAWS}, found {draws}")
    draw = torch.Generator().manual_seed(seed)
    rises = [_rise(loss, _noise(loss, draw, scale), rho) - at for _ in range(draws)]
    mean = fmean(rises)
    error = stdev(rises) / math.sqrt(draws) if math.isfinite(mean) else None
    return AverageSharpness(mean, error)


def _noise(loss: MeanLoss, draw: torch.Generator, scale: Tensor | None) -> Tensor:
    drawn = torch.randn(loss.weights.size, generator=draw, dtype=loss.weights.dtype)
    return drawn if scale is None else drawn.mul_(scale)


def _rise(loss: MeanLoss, noise: Tensor, rho: float) -> float:
    """The mean loss of both signs."""
    losses = []
    for signed in (rho, -rho):
        with loss.weights.moved(noise, signed):
            losses.append(loss.value())
    return sum(losses) / 2


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
