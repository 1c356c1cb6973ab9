"""How much a trial's loss lies above a rival's on all units, told from those met so far.

All functions take leading axes, so that many races can be looked at together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mergekit_geo.tasks.losses import Floats

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Rise:
    """A mean difference over all units, estimated from some of them.

    Attributes:
        value: (...) the estimate.
        error: (...) its standard error; 0 where all were met.
        freedom: (...) degrees of freedom of that.
    """

    value: Floats
    error: Floats
    freedom: Floats

    @classmethod
    def of(cls, differences: Floats, weights: Floats, units: int) -> Rise:
        """The rise on all units, from those met, which are a random sample of them.

        The error is the jackknife's (Tukey 1958) times sqrt(1 - m / n), as m of n units were
        met and the sum over the others alone is unknown (Cochran 1977, section 2.6); the degrees of
        freedom are those of Bell and McCaffrey (2002), as in `evaluation.statistics`.

        Args:
            differences: (..., m) of the units met.
            weights: (m,) or (..., m) what each counts.
            units: Number n of all.

        Example:
            >>> found = Rise.of(np.array([1.0, 2, 3, 4, 5]), np.ones(5), 10)
            >>> float(found.value), round(float(found.error), 3), round(float(found.freedom), 9)
            (3.0, 0.5, 4.0)
        """
        met = differences.shape[-1]
        shares = weights / weights.sum(axis=-1, keepdims=True)
        value = (shares * differences).sum(axis=-1)
        shifts = shares / (1 - shares) * (differences - value[..., None])
        unmet = (1 - met / units) * (1 - 1 / met)
        return cls(value, np.sqrt(unmet * np.square(shifts).sum(axis=-1)), _freedom(shares))

    @classmethod
    def pooled(cls, rises: Sequence[Rise], shares: Sequence[float]) -> Rise:
        """A weighted sum over sets, which share no units (Welch 1947, Satterthwaite 1946)."""
        value = np.sum([w * one.value for one, w in zip(rises, shares, strict=True)], axis=0)
        parts = [np.square(w * one.error) for one, w in zip(rises, shares, strict=True)]
        total = np.sum(parts, axis=0)
        spread = np.sum(
            [part**2 / one.freedom for part, one in zip(parts, rises, strict=True)], axis=0
        )
        freedom = np.where(total > 0, total**2 / np.where(spread > 0, spread, 1), 1)
        return cls(value, np.sqrt(total), freedom)

    def moved(self, by: Floats | float) -> Rise:
        """The rise plus a number that is known."""
        return Rise(self.value + by, self.error, self.freedom)

    def exceeds_zero(self, level: float) -> Flags:
        """Whether it is above zero, by Student's one-sided test of such a level."""
        from scipy.special import stdtrit

        margin = np.where(self.error > 0, stdtrit(self.freedom, 1 - level) * self.error, 0)
        return np.asarray(self.value > margin)


def _freedom(shares: Floats) -> Floats:
    """Degrees of freedom of a weighted mean's error, along the last axis."""
    squares = np.square(shares)
    terms = squares / (1 - shares)
    total, both = terms.sum(axis=-1), np.square(terms).sum(axis=-1)
    return np.asarray(1 / (squares.sum(axis=-1) + total**2 - both))
