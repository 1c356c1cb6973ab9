"""The measures of sharpness: a new one is a line in the table, and a file of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

from mergekit_geo.curvature.extremes import EXTREMES
from mergekit_geo.curvature.levels import Level
from mergekit_geo.curvature.measure import LocalLoss, Measure
from mergekit_geo.curvature.rise import ASCENT, SAM_SHARPNESS
from mergekit_geo.curvature.slope import SLOPE
from mergekit_geo.curvature.spectrum import SPECTRUM
from mergekit_geo.curvature.stationarity import STATIONARITY
from mergekit_geo.curvature.trace import TRACE

MEASURES: dict[str, Measure[Any]] = {
    measure.key: measure
    for measure in (SLOPE, EXTREMES, ASCENT, TRACE, SPECTRUM, SAM_SHARPNESS, STATIONARITY)
}
"""All measures by their key in a report, in the order in which they are made."""


class _UnloadedError(Exception):
    """The module is asked for."""


def records_at(at: LocalLoss) -> dict[str, Any]:
    """What every measure of the level finds at a model, by its key.

    Raises:
        DataError: The loss is not a number.
    """
    return {one.key: at.of(one) for one in _measures(at.level)}


def is_finished(at: LocalLoss) -> bool:
    """Whether all is kept, so that the module need not be loaded."""
    try:
        records_at(replace(at, load=_refuse))
    except _UnloadedError:
        return False
    return True


def gradients_of(level: Level) -> float:
    """Most gradients of the whole sample that a level's measures of one model take.

    Example:
        >>> from mergekit_geo.curvature.levels import LEVELS
        >>> [round(gradients_of(LEVELS[name]), 1) for name in ("quick", "full")]
        [36.7, 1512.5]
    """
    return sum(one.cost(level) for one in _measures(level))


def _measures(level: Level) -> list[Measure[Any]]:
    return [one for one in MEASURES.values() if one.when(level)]


def _refuse() -> NoReturn:
    raise _UnloadedError
