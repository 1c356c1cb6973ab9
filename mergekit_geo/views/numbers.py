"""Numbers and their intervals as text."""

from __future__ import annotations

import math

from mergekit_geo.records.losses import DifferenceEntry, Estimate, LossEntry
from mergekit_geo.views.chart import number


def with_interval(entry: LossEntry) -> str:
    """A loss with its interval as text."""
    if entry.low is None:
        return f"{entry.loss:.4f}"
    return f"{entry.loss:.4f} [{entry.low:.4f}, {entry.high:.4f}]"


def estimate(found: Estimate | DifferenceEntry | None) -> str:
    """A signed number with its interval as text; empty for None."""
    if found is None:
        return ""
    if found.value is None:
        return "not a number"
    if found.low is None:
        return f"{found.value:+.4f}"
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def metric(entry: LossEntry) -> str:
    """A model's score; empty where it has none."""
    if entry.metric is None or entry.metric_low is None:
        return number(entry.metric)
    assert entry.metric_high is not None, "an end without the other"
    return _share(entry.metric, entry.metric_low, entry.metric_high, ".4f")


def share_difference(entry: Estimate | DifferenceEntry | None) -> str:
    """A difference of scores with its sign and interval; empty for None."""
    if entry is None or entry.value is None or entry.low is None or entry.high is None:
        return estimate(entry)
    return _share(entry.value, entry.low, entry.high, "+.4f")


def _share(value: float, low: float, high: float, form: str) -> str:
    """A share with its interval, by ± where that has it in the middle."""
    if math.isclose(value - low, high - value, abs_tol=1e-6):
        return f"{value:{form}} ± {value - low:.4f}"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"
