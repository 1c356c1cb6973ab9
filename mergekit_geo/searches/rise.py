"""How much a trial's loss lies above a rival's on all units, told from those met so far.

All functions take leading axes, so that many races can be looked at together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mergekit_geo.tasks.losses import Floats

Flags = NDArray[np.bool_]


_RIDGE = 1e-6
SKEW = 4.0
"""What the skewness of the units met is multiplied by: a few of them show too little of it."""


@dataclass(frozen=True, eq=False)
class Rise:
    """A mean difference over all units, estimated from some of them.

    Attributes:
        value: (...) the estimate.
        error: (...) its standard error; 0 where all were met.
        freedom: (...) degrees of freedom of that.
        skew: (...) skewness of the estimate.
    """

    value: Floats
    error: Floats
    freedom: Floats
    skew: Floats

    @classmethod
    def of(cls, differences: Floats, weights: Floats, known: Floats | None = None) -> Rise:
        """The rise on all units, from those met, which are a random sample of them.

        The error is the jackknife's (Tukey 1958) times sqrt(1 - m / n), as m of n units were met
        and the sum over the others alone is unknown (Cochran 1977, section 2.6); the degrees of
        freedom are those of Bell and McCaffrey (2002), as in `evaluation.statistics`.

        Differences that are known of all units foretell those that were not met, by regression
        (Cochran 1977, chapter 7), where that makes the error smaller.

        Args:
            differences: (..., m) of the units met.
            weights: (n,) or (..., n) what each unit counts.
            known: (p, n) or (..., p, n) differences of other trials to the same rival.

        Example:
            >>> found = Rise.of(np.array([1.0, 2, 3, 4, 5]), np.ones(10))
            >>> float(found.value), round(float(found.error), 3), round(float(found.freedom), 9)
            (3.0, 0.5, 4.0)
        """
        met = differences.shape[-1]
        shares = weights[..., :met] / weights[..., :met].sum(axis=-1, keepdims=True)
        value = (shares * differences).sum(axis=-1)
        sample = _Sample(differences - value[..., None], shares, 1 - met / weights.shape[-1])
        plain = cls(value, *sample.spread(sample.rests, shares / (1 - shares)))
        if known is None or not known.shape[-2]:
            return plain
        every = weights / weights.sum(axis=-1, keepdims=True)
        return sample.foretold(value, known, every).unless(plain)

    def unless(self, other: Rise) -> Rise:
        """This one where its error is smaller, else the other."""
        own = self.error < other.error
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Rise(*(np.where(own, mine, theirs) for mine, theirs in pairs))

    @classmethod
    def pooled(cls, rises: Sequence[Rise], shares: Sequence[float]) -> Rise:
        """A weighted sum over sets, which share no units (Welch 1947, Satterthwaite 1946)."""
        found = list(zip(rises, shares, strict=True))
        value = np.sum([w * one.value for one, w in found], axis=0)
        parts = [np.square(w * one.error) for one, w in found]
        total = np.sum(parts, axis=0)
        spread = np.sum([p**2 / one.freedom for p, one in zip(parts, rises, strict=True)], axis=0)
        thirds = np.sum([one.skew * (w * one.error) ** 3 for one, w in found], axis=0)
        freedom = np.where(total > 0, total**2 / _positive(spread), 1)
        return cls(value, np.sqrt(total), freedom, thirds / _positive(total) ** 1.5)

    def moved(self, by: Floats | float) -> Rise:
        """The rise plus a number that is known."""
        return replace(self, value=self.value + by)

    def widened(self, by: Floats | float) -> Rise:
        """The rise with so many times the error."""
        return replace(self, error=self.error * by)

    def exceeds_zero(self, level: float) -> Flags:
        """Whether it is above zero, by Student's one-sided test of such a level.

        Where a long tail points down, a few units make a rise of what is none: t is put through
        Hall's transformation (1992) then, which takes the skewness out of it.
        """
        from scipy.special import stdtrit

        t = self.value / _positive(self.error)
        skew = SKEW * np.minimum(self.skew, 0)
        t = t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6
        is_above = t > stdtrit(self.freedom, 1 - level)
        return np.asarray(np.where(self.error > 0, is_above, self.value > 0))


def scale_of_unmet(scales: Floats, met: int) -> Floats:
    """How many times larger units are that were not met than those that were, at least 1.

    Args:
        scales: (..., n) size of each, as a difference is expected to grow with.
        met: How many were met.

    Example:
        >>> float(scale_of_unmet(np.array([1.0, 1, 1, 2, 2]), 3))
        2.0
        >>> float(scale_of_unmet(np.array([2.0, 2, 1, 1, 1]), 2))
        1.0
    """
    squares = np.square(scales)
    known, unknown = squares[..., :met].mean(axis=-1), squares[..., met:].mean(axis=-1)
    return np.asarray(np.sqrt(np.maximum(unknown / _positive(known), 1)))


@dataclass(frozen=True, eq=False)
class _Sample:
    """Units met (m of them).

    Attributes:
        rests: (..., m) how far each lies off their mean.
        shares: (..., m) of their weight.
        unmet: Share of all units that were not met.
    """

    rests: Floats
    shares: Floats
    unmet: float

    def spread(
        self, rests: Floats, counts: Floats, fitted: int = 0
    ) -> tuple[Floats, Floats, Floats]:
        """Error, degrees of freedom and skewness of a mean.

        Args:
            rests: (..., m) how far units lie off what is foretold of them.
            counts: (..., m) what each of these moves the mean by where it is left out.
            fitted: How many numbers were fitted beside the mean.
        """
        squares = np.square(counts * rests).sum(axis=-1)
        error = np.sqrt(self.unmet * (1 - 1 / rests.shape[-1]) * squares)
        freedom = np.maximum(_freedom(self.shares) - fitted, 1)
        return error, freedom, np.sqrt(self.unmet) * _skewness(rests, self.shares)

    def foretold(self, value: Floats, known: Floats, shares: Floats) -> Rise:
        """The mean over all units by weighted regression on what is known of all.

        Args:
            value: (...) mean over those met.
            known: (..., p, n) of all units.
            shares: (..., n) of all units in their weight.
        """
        met, own = self.rests.shape[-1], self.shares[..., None, :]
        centre = (known[..., :met] * own).sum(axis=-1, keepdims=True)
        off = known[..., :met] - centre
        rest = (known * shares[..., None, :]).sum(axis=-1, keepdims=True) - centre
        inverse = np.linalg.inv(_with_ridge((off * own) @ off.swapaxes(-1, -2)))
        slope = inverse @ (off * own) @ self.rests[..., None]
        rests = self.rests - (slope.swapaxes(-1, -2) @ off)[..., 0, :]
        leverage = self.shares * (1 + (off * (inverse @ off)).sum(axis=-2))
        counts = 1 + (rest.swapaxes(-1, -2) @ inverse @ off)[..., 0, :]
        counts = self.shares * counts / np.maximum(1 - leverage, 0.1)
        found = self.spread(rests, counts, known.shape[-2])
        return Rise(value + (rest * slope)[..., 0].sum(axis=-1), *found)


def _with_ridge(gram: Floats) -> Floats:
    """A matrix that can be inverted, where what is known is much alike."""
    size = np.trace(gram, axis1=-2, axis2=-1)[..., None, None]
    return gram + _RIDGE * _positive(size) * np.eye(gram.shape[-1])


def _skewness(rests: Floats, shares: Floats) -> Floats:
    """Skewness of a weighted mean, from what units lie off it, along the last axis."""
    second, third = ((shares * rests**power).sum(axis=-1) for power in (2, 3))
    return np.asarray(third / _positive(second) ** 1.5 * np.sqrt(np.square(shares).sum(axis=-1)))


def _freedom(shares: Floats) -> Floats:
    """Degrees of freedom of a weighted mean's error, along the last axis."""
    squares = np.square(shares)
    terms = squares / (1 - shares)
    total, both = terms.sum(axis=-1), np.square(terms).sum(axis=-1)
    return np.asarray(1 / (squares.sum(axis=-1) + total**2 - both))


def _positive(values: Floats) -> Floats:
    """Divisors: 1 in place of 0."""
    return np.where(values > 0, values, 1.0)
