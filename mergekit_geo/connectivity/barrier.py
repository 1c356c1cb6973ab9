"""How much higher a path is than its ends: loss barriers, with honest intervals.

The place of each maximum is chosen on the selection half; the number and its interval come from the
report half, at that place. The interval of a maximum itself would leave zero out by construction.

Legend: p points of the path, n examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mergekit_geo.connectivity.profile import Profile
from mergekit_geo.evaluation.statistics import estimate
from mergekit_geo.records.findings import Finding, finding, limit_of, percent
from mergekit_geo.records.losses import Estimate
from mergekit_geo.tasks.losses import Floats


@dataclass(frozen=True)
class Height:
    """A number at a position on a path.

    Attributes:
        t: The place, chosen on the selection half; NaN where the loss is finite nowhere.
        estimate: The number there, on the report half.
    """

    t: float
    estimate: Estimate


@dataclass(frozen=True)
class Heights:
    """One quantity, be it the loss or the error, along a path from a to b.

    Attributes:
        barrier: Highest above (1-t) L(a) + t L(b), between the ends (Entezari 2021). At the ends
            it is 0 by definition; negative where the whole path lies below.
        barrier_mean: Highest above (L(a) + L(b)) / 2, ends included (Frankle 2020).
        dip: Lowest above (1-t) L(a) + t L(b), between the ends.
        path_max: Highest of all, ends included (Garipov 2018).
        path_mean: Mean over t, by trapezoids; points that are not finite are bridged.
        ends: L(a) and L(b).
    """

    barrier: Height
    barrier_mean: Height
    dip: Height
    path_max: Height
    path_mean: Estimate
    ends: tuple[Estimate, Estimate]

    @property
    def size(self) -> float:
        """Mean loss of the ends."""
        return (self.ends[0].number + self.ends[1].number) / 2

    @property
    def limit(self) -> float:
        """Barriers below this are negligible: 2 % of the mean loss of the ends."""
        return limit_of(self.size)

    def sentence(self, unit: str) -> str:
        """Whether there is a barrier, in words."""
        found = self.barrier.estimate
        if found.value is None:
            return "no barrier can be given"
        if found.is_significant is None:
            return "too few documents to tell whether there is a barrier"
        return WORDS[finding(found, self.limit)](self, unit)

    def _wall(self, unit: str) -> str:
        found = self.barrier.estimate
        kind = "a barrier" if found.number >= self.limit else "a negligible barrier"
        share = f", {percent(found.number / self.size)} of the loss," if self.size else ""
        return f"{kind} of {_quantity(found, 1, unit)}{share} at t = {self.barrier.t:.2f}"

    def _dip(self, unit: str) -> str:
        """Where the path lies below the line between its ends; empty where it does not."""
        if finding(self.dip.estimate, math.inf) != "lower":
            return ""
        depth = _quantity(self.dip.estimate, -1, unit)
        return f"the path dips {depth} below its ends at t = {self.dip.t:.2f}"

    def _none(self, unit: str) -> str:
        if dip := self._dip(unit):
            return f"no barrier: {dip}"
        if not self.barrier.estimate.detectable:
            return "no barrier"
        return f"no significant barrier: one of {self._detectable(unit)} would be detected"

    def _unknown(self, unit: str) -> str:
        dip = self._dip(unit)
        text = f"only one of {self._detectable(unit)} or more would be detected"
        return f"cannot tell whether there is a barrier: {text}" + (f"; {dip}" if dip else "")

    def _detectable(self, unit: str) -> str:
        detectable = self.barrier.estimate.detectable
        assert detectable is not None, "an interval without a detectable size"
        share = f" ({percent(detectable / self.size)} of the loss)" if self.size else ""
        return f"{detectable:.2g} {unit}{share}"


WORDS: dict[Finding, Callable[[Heights, str], str]] = {
    "higher": Heights._wall,
    "lower": Heights._none,
    "same": Heights._none,
    "unknown": Heights._unknown,
}


@dataclass(frozen=True)
class PathHeights:
    """How high a path between two models is, in loss and error.

    Attributes:
        loss: In the loss: nats, or squared error for regression.
        error: In the share of wrong answers; None where the task has none.
        points: Number of points measured, ends included.
        not_finite: Where the loss is NaN or infinite: left out of all maxima.
    """

    loss: Heights
    error: Heights | None
    points: int
    not_finite: tuple[float, ...]

    @property
    def height(self) -> float:
        """The barrier in the loss; 0 where it is not significant, NaN where nothing is known."""
        found = self.loss.barrier.estimate
        if found.is_significant is None:
            return math.nan
        return max(found.number, 0.0) if found.is_significant else 0.0

    def sentence(self, unit: str = "nats") -> str:
        """What was found in the loss, in words.

        Args:
            unit: Of the loss.
        """
        places = ", ".join(f"{t:g}" for t in self.not_finite)
        gaps = f"; the loss is not finite at t = {places}" if places else ""
        return self.loss.sentence(unit) + gaps


def path_heights(profile: Profile) -> PathHeights:
    """Heights of a path above its ends, in the loss and in the task's error.

    Example:
        >>> from mergekit_geo.connectivity.profile import trace
        >>> from mergekit_geo.evaluation.split import Split
        >>> from mergekit_geo.tasks.losses import Losses
        >>> draw = np.random.default_rng(0).normal(2, 0.2, size=40)
        >>> def arch(t):
        ...     return Losses(3 + 4 * t * (1 - t) * draw, np.ones(40), np.arange(40))
        >>> split = Split(np.arange(20), np.arange(20, 40))
        >>> path_heights(trace(arch, split)).sentence()
        'a barrier of 2.012 nats [1.946, 2.079], 67 % of the loss, at t = 0.50'
    """
    losses = list(profile.measured.values())
    wrong = [1 - found.score for found in losses if found.score is not None]
    of_scores = {t: replace(x, weight=x.weight_of_score) for t, x in profile.measured.items()}
    return PathHeights(
        loss=_heights(profile, np.array([found.loss for found in losses])),
        error=_heights(Profile(of_scores, profile.split), np.array(wrong)) if wrong else None,
        points=len(losses),
        not_finite=profile.not_finite,
    )


def _heights(profile: Profile, values_pn: Floats) -> Heights:
    t_p1, values_pn = profile.t[:, None], values_pn + profile.finite[:, None]
    first, last = values_pn[0], values_pn[-1]
    inside_pn = (values_pn - (first + t_p1 * (last - first)))[1:-1]  # 0 to the bit where a is b
    between, anywhere = profile.t[1:-1], profile.t
    return Heights(
        barrier=_chosen(profile, between, inside_pn, np.argmax),
        barrier_mean=_chosen(profile, anywhere, values_pn - (first + last) / 2, np.argmax),
        dip=_chosen(profile, between, inside_pn, np.argmin),
        path_max=_chosen(profile, anywhere, values_pn, np.argmax),
        path_mean=_reported(profile, _mean_over_t(profile, values_pn)),
        ends=(_reported(profile, first), _reported(profile, last)),
    )


def _chosen(
    profile: Profile, t: Floats, values_pn: Floats, pick: Callable[[Floats], np.intp]
) -> Height:
    """Pick a place on the selection half, and report the value there on the other."""
    finite = np.isfinite(values_pn).all(axis=1)
    if not finite.any():
        return Height(math.nan, _reported(profile, values_pn[0]))
    t, values_pn = t[finite], values_pn[finite]
    rows = profile.split.selection
    place = pick(values_pn[:, rows] @ profile.examples.weight[rows])
    return Height(float(t[place]), _reported(profile, values_pn[place]))


def _reported(profile: Profile, values: Floats) -> Estimate:
    rows, examples = profile.split.report, profile.examples
    return estimate(values[rows], examples.weight[rows], examples.document[rows])


def _mean_over_t(profile: Profile, values_pn: Floats) -> Floats:
    """(n,) trapezoid rule for each example; NaN where an end is."""
    known = ~np.isnan(profile.finite)
    known[[0, -1]] = True
    steps = np.diff(profile.t[known])
    widths_p = (np.append(steps, 0) + np.insert(steps, 0, 0)) / 2
    return np.asarray(widths_p @ values_pn[known])


def _quantity(found: Estimate, sign: int, unit: str) -> str:
    """A value with its interval, to two digits of the interval's half width."""
    assert found.low is not None, "significant without an interval"
    assert found.high is not None, "significant without an interval"
    low, high = sorted((sign * found.low, sign * found.high))
    half = (high - low) / 2 or abs(found.number)
    digits = max(0, 1 - math.floor(math.log10(half)))
    return f"{sign * found.number:.{digits}f} {unit} [{low:.{digits}f}, {high:.{digits}f}]"
