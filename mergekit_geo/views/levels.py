"""The one scale of heights and colours that surfaces share, for both back ends."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mergekit_geo.records.landscape import ScaleEntry
from mergekit_geo.views.chart import HeightMap, HeightMaps

Floats = NDArray[np.float64]

MOST = 12
"""Steps between levels."""
ROUND = (1, 2, 2.5, 5, 10)
"""Steps, but for powers of ten."""
CLOSE = 1.4
"""Ratio of heights within which a level would run into an end of a logarithmic scale."""
DECADES = 3
"""Decades of height that a logarithmic scale covers."""


def levels_of(scale: ScaleEntry) -> Floats:
    """Losses at which colours change: round numbers, or heights of 1, 2, 5, 10, ... above `low`.

    Example:
        >>> levels_of(ScaleEntry(low=3.0, high=5.0, log=False))[:3].round(3).tolist()
        [3.0, 3.2, 3.4]
        >>> levels_of(ScaleEntry(low=3.0, high=5.0, log=True))[:3].round(3).tolist()
        [3.0, 3.005, 3.01]
    """
    return _logarithmic(scale) if scale.log else _linear(scale)


def _linear(scale: ScaleEntry) -> Floats:
    least = (scale.high - scale.low) / MOST
    power = 10.0 ** math.floor(math.log10(least))
    step = power * next(m for m in ROUND if m * power >= least * (1 - ROUNDING))
    first = math.floor(scale.low / step + ROUNDING)
    last = math.ceil(scale.high / step - ROUNDING)
    return step * np.arange(first, last + 1, dtype=np.float64)


ROUNDING = 1e-9


def _logarithmic(scale: ScaleEntry) -> Floats:
    whole = scale.high - scale.low
    top = math.floor(math.log10(whole)) + 1
    steps = [m * 10.0**e for e in range(top - DECADES - 1, top + 1) for m in (1, 2, 5)]
    kept = [step for step in steps if CLOSE * 10.0**-DECADES < step / whole < 1 / CLOSE]
    return np.array([scale.low, *(scale.low + step for step in kept), scale.high])


def labels_of(scale: ScaleEntry) -> list[str]:
    """Levels as text, with the decimals that tell neighbours apart."""
    levels = levels_of(scale)
    return [f"{level:.{digits_of(levels)}f}" for level in levels]


def digits_of(levels: Floats) -> int:
    """Decimals that tell neighbouring levels apart.

    Example:
        >>> digits_of(np.array([3.0, 3.2, 3.4])), digits_of(np.array([3.0, 3.25, 3.5]))
        (1, 2)
    """
    steps = np.diff(levels)
    for digits in range(6):
        if np.abs(np.round(levels, digits) - levels).max() < steps.min() / 10:
            return digits
    return math.ceil(-math.log10(float(steps.min()))) + 1


def raised(loss: Floats, scale: ScaleEntry) -> Floats:
    """Heights that losses are drawn at: themselves, or the logarithm of what lies above `low`.

    Losses beyond the scale are drawn at its ends.

    Example:
        >>> scale = ScaleEntry(low=3.0, high=5.0, log=True)
        >>> raised(np.array([3.2, 5.0, 9.0]), scale).round(6).tolist()
        [2.0, 3.0, 3.0]
    """
    levels = levels_of(scale)
    held = np.clip(loss, levels[0], levels[-1])
    if not scale.log:
        return np.asarray(held)
    shares = np.maximum((held - scale.low) / (scale.high - scale.low), 10.0**-DECADES)
    return np.asarray(np.log10(shares) + DECADES)


def heights(surface: HeightMap) -> Floats:
    """(y, x) loss, NaN where it is not a number."""
    return np.array(surface.heights, dtype=np.float64)


def overflow(chart: HeightMaps) -> str:
    """Which ends of the scale some loss lies beyond: `neither`, `min`, `max` or `both`."""
    levels = levels_of(chart.scale)
    rounding = ROUNDING * (levels[-1] - levels[0])
    losses = np.concatenate([heights(surface).ravel() for surface in chart.panels])
    below = bool((losses < levels[0] - rounding).any())
    above = bool((losses > levels[-1] + rounding).any())
    return {(False, False): "neither", (True, False): "min", (False, True): "max"}.get(
        (below, above), "both"
    )
