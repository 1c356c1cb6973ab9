"""The measures of sharpness, as tables and pictures show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mergekit_geo.records.curvature import SharpnessEntry

NumberOf = Callable[[SharpnessEntry], float | None]


def _unknown(entry: SharpnessEntry) -> float | None:
    return None


@dataclass(frozen=True)
class Measure:
    """A number of a model.

    Attributes:
        title: Its name.
        value: The number; None where it was not measured.
        error: Its standard error, or an eigenvalue's residual where that is larger; None where
            it has none.
    """

    title: str
    value: NumberOf
    error: NumberOf = _unknown

    def text(self, entry: SharpnessEntry) -> str:
        """The value with its error as text; empty where it was not measured."""
        value, error = self.value(entry), self.error(entry)
        if value is None:
            return ""
        return f"{value:.4g}" if error is None else f"{value:.4g} ± {error:.2g}"


def _of(path: str) -> NumberOf:
    """A number of a part that need not be there."""

    def find(entry: SharpnessEntry) -> float | None:
        found: Any = entry
        for name in path.split("."):
            found = None if found is None else getattr(found, name)
        return None if found is None else float(found)

    return find


LAMBDA_MAX = Measure("λ_max", _of("extremes.largest.value"), _of("extremes.largest.uncertainty"))

MEASURES = (
    LAMBDA_MAX,
    Measure("λ_max, half", _of("extremes.largest.half")),
    Measure("λ_min", _of("extremes.smallest.value"), _of("extremes.smallest.uncertainty")),
    Measure("trace", _of("trace.value"), _of("trace.standard_error")),
    Measure("SAM sharpness", _of("sam_sharpness")),
    Measure("adaptive, worst", _of("ascent.adaptive_worst")),
    Measure("adaptive, mean", _of("ascent.adaptive_mean"), _of("ascent.adaptive_error")),
    Measure("|gradient|", _of("slope.gradient_norm")),
    Measure("|weights|", _of("slope.parameter_norm")),
    Measure("|logits|", _of("slope.logit_norm")),
)
