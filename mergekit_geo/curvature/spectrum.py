"""Distribution of a symmetric operator's eigenvalues, by stochastic Lanczos quadrature.

The Ritz values of a random start, weighted by its share in each Ritz vector, are the Gauss
quadrature of that start's spectral measure (Golub and Welsch 1969), whose mean over the starts is
the distribution of the eigenvalues (Ubaru, Chen and Saad 2017; for networks Ghorbani 2019). It is
drawn as a cumulative: that needs no smoothing, which would hide how little is known.

Axes: m nodes of a quadrature, p points of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.special import stdtrit

from mergekit_geo.curvature.extremes import EXTREMES
from mergekit_geo.curvature.lanczos import Product, lanczos, random_start
from mergekit_geo.curvature.measure import LocalLoss, Measure
from mergekit_geo.curvature.stationarity import TAU
from mergekit_geo.errors import ArgumentError
from mergekit_geo.modules.vectors import Floats
from mergekit_geo.records.curvature import NegativeShare, ProbeEntry, Spectrum

LEVEL = 0.95
SAME = 1e-6
"""Distance of two nodes on one eigenvalue, at most, relative to the largest."""


@dataclass(frozen=True)
class Quadrature:
    """What one random start tells of the distribution.

    Attributes:
        nodes: (m,) Ritz values, ascending.
        weights: (m,) share of the eigenvalues each stands for, with sum 1.
    """

    nodes: Floats
    weights: Floats

    @property
    def mean(self) -> float:
        """Mean eigenvalue: x^T A x of the start, as in Hutchinson (1990)."""
        return float(self.nodes @ self.weights)

    def cumulative(self, eigenvalues: Floats) -> Floats:
        """Share of the eigenvalues up to each of these: (p,)."""
        below = np.searchsorted(self.nodes, eigenvalues, side="right")
        return np.concatenate(([0.0], np.cumsum(self.weights)))[below]


def probe(product: Product, size: int, dtype: torch.dtype, steps: int, seed: int) -> Quadrature:
    """The quadrature of one random start.

    Args:
        product: The operator.
        size: n.
        dtype: Of its vectors, float32 or float64.
        steps: Of Lanczos: so many products, and so many vectors of memory.
        seed: Of the start; another one for each probe.

    Raises:
        ArgumentError: No steps.
        DataError: A product is not finite.

    Example:
        >>> diagonal = torch.tensor([1.0, 1.0, 4.0])
        >>> probe(lambda vector: diagonal * vector, 3, torch.float32, 3, seed=0).nodes.round(5)
        array([1., 4.])
    """
    krylov = lanczos(product, random_start(size, dtype, seed), steps)
    return Quadrature(krylov.values, krylov.weights)


def spectrum(quadratures: Sequence[Quadrature], points: int = 101) -> Spectrum:
    """The distribution that several probes tell of.

    Args:
        quadratures: Of different seeds.
        points: Of the grid, at most.

    Raises:
        ArgumentError: No quadrature, or a grid without its two ends.

    Example:
        >>> halves = Quadrature(np.array([1.0, 3.0]), np.array([0.5, 0.5]))
        >>> found = spectrum([halves, halves])
        >>> found.eigenvalues, found.cumulative, found.probes
        ([1.0, 3.0], [0.5, 1.0], 2)
    """
    if not quadratures:
        raise ArgumentError("a spectrum of no probes: expected at least 1")
    eigenvalues = _grid(np.concatenate([one.nodes for one in quadratures]), points)
    rows = np.stack([one.cumulative(eigenvalues) for one in quadratures])
    low, high = _band(rows)
    return Spectrum(
        eigenvalues=eigenvalues.tolist(),
        cumulative=rows.mean(axis=0).tolist(),
        low=None if low is None else low.tolist(),
        high=None if high is None else high.tolist(),
        probes=len(quadratures),
        steps=max(len(one.nodes) for one in quadratures),
    )


def share_below(quadratures: Sequence[Quadrature], tau: float) -> NegativeShare:
    """Share of the eigenvalues up to -τ, and its band over the probes.

    Args:
        quadratures: Of different seeds.
        tau: τ, from 0 on.

    Raises:
        ArgumentError: No quadrature.

    Example:
        >>> thirds = Quadrature(np.array([-2.0, 0.0, 3.0]), np.full(3, 1 / 3))
        >>> found = share_below([thirds, thirds], 0.1)
        >>> round(found.share, 3), round(found.low, 3), found.standard_error
        (0.333, 0.333, 0.0)
    """
    if not quadratures:
        raise ArgumentError("a share of no probes: expected at least 1")
    rows = np.stack([one.cumulative(np.array([-tau])) for one in quadratures])
    low, high = _band(rows)
    error = rows.std(ddof=1) / math.sqrt(len(rows)) if len(rows) > 1 else None
    return NegativeShare(
        tau=tau,
        share=float(rows.mean()),
        standard_error=None if error is None else float(error),
        low=None if low is None else float(low[0]),
        high=None if high is None else float(high[0]),
    )


def _grid(nodes: Floats, points: int) -> Floats:
    """Every n-th node, and both ends: (p,).

    Nodes lie dense where eigenvalues do, and each probe has one on every outlier, so with no fewer
    points than steps both are seen. Nodes on one eigenvalue differ by rounding: the upper one is
    drawn, so that the step of the cumulative is whole.
    """
    if points < 2:  # noqa: PLR2004
        raise ArgumentError(f"a grid of {points} points: expected at least 2")
    ordered = np.sort(nodes)
    apart = np.diff(ordered) > SAME * np.abs(ordered).max()
    upper = ordered[np.append(apart, True)]
    ranks = np.linspace(0, len(ordered) - 1, points).round().astype(int)
    return np.unique(upper[np.searchsorted(upper, ordered[ranks])])


def _band(rows: Floats) -> tuple[Floats, Floats] | tuple[None, None]:
    """Ends of the mean's interval over probes (rows, p); nothing with fewer than two rows."""
    count = len(rows)
    if count < 2:  # noqa: PLR2004
        return None, None
    quantile = float(stdtrit(count - 1, (1 + LEVEL) / 2))
    margin = quantile * rows.std(axis=0, ddof=1) / math.sqrt(count)
    mean = rows.mean(axis=0)
    return np.maximum(mean - margin, 0.0), np.minimum(mean + margin, 1.0)


def _spectrum(at: LocalLoss) -> Spectrum:
    """Every probe is kept by itself: of a spectrum that was interrupted, those that were made."""
    probes = [
        at.kept(f"probe {index}", ProbeEntry, partial(_probe, at, index))
        for index in range(at.level.probes)
    ]
    found = [Quadrature(np.array(one.nodes), np.array(one.weights)) for one in probes]
    tau = TAU * abs(at.of(EXTREMES).largest.value)
    return spectrum(found).model_copy(update={"negative": share_below(found, tau)})


def _probe(at: LocalLoss, index: int) -> ProbeEntry:
    weights, seed = at.loss.weights, at.seed * at.level.probes + index
    found = probe(at.hessian.product, weights.size, weights.dtype, at.level.probe_steps, seed)
    return ProbeEntry(nodes=found.nodes.tolist(), weights=found.weights.tolist())


SPECTRUM = Measure(
    "spectrum",
    _spectrum,
    when=lambda level: level.probes > 0,
    cost=lambda level: level.product * level.probes * level.probe_steps,
)
