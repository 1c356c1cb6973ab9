"""Both ends of the Hessian's spectrum, by Lanczos, and what lies along their eigenvectors."""

from __future__ import annotations

from functools import partial

import numpy as np
from torch import Tensor

from mergekit_geo.curvature.ascent import along
from mergekit_geo.curvature.direction import escape, quotients
from mergekit_geo.curvature.hessian import Hessian
from mergekit_geo.curvature.lanczos import Krylov, extremes_converged, lanczos
from mergekit_geo.curvature.largest import krylov_of
from mergekit_geo.curvature.levels import DIFFERENCES, EVALUATION, EXACT, Level
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.curvature.measure import LocalLoss, Measure
from mergekit_geo.evaluation.statistics import mean_loss
from mergekit_geo.records.curvature import (
    CurvatureEntry,
    EigenvalueEntry,
    Escape,
    ExtremesEntry,
    QuotientsEntry,
)
from mergekit_geo.tasks.losses import Losses

TOLERANCE = 1e-3


def curvature(at: LocalLoss) -> CurvatureEntry:
    """Both ends of the spectrum, and what paired differences of λ_max are made of."""
    return at.kept("curvature", CurvatureEntry, partial(_curvature, at))


def _curvature(at: LocalLoss) -> CurvatureEntry:
    level, hessian = at.level, at.hessian
    found = krylov_of(
        hessian,
        at.start(),
        level.steps,
        stop=extremes_converged(TOLERANCE, level.ends),
        keep_basis=at.fits(level.steps),
    )
    both, kept = level.ends == "both", found.basis is not None
    top = found.vector(-1) if kept else None
    bottom = found.vector(0) if kept and both else None
    above = _quotients(at, top, found.values[-1])
    below = _quotients(at, bottom, found.values[0])
    extremes = ExtremesEntry(
        largest=_eigenvalue(found, -1, above, _on_half(at, top)),
        smallest=_eigenvalue(found, 0, below) if both else None,
        steps=len(found.diagonal),
        method=hessian.method,
        reason=hessian.reason,
        step=hessian.step if hessian.method == DIFFERENCES else None,
        step_error=_step_error(at, top, found.values[-1]),
        along=_along(at, top) if both else None,
        escape=_escape(at, bottom, found.values[0]),
    )
    return CurvatureEntry(extremes=extremes, quotients=above and _quotients_entry(above))


def _quotients(at: LocalLoss, vector: Tensor | None, value: float) -> Losses | None:
    """v^T H v of every example; None where one is no number, or v was not kept."""
    if vector is None:
        return None
    found = quotients(at.loss, at.sample.measured, vector, value)
    return found if np.isfinite(found.loss).all() else None


def _on_half(at: LocalLoss, top: Tensor | None) -> float | None:
    """λ_max on every other batch, sought from where it was found on all."""
    if top is None or len(at.loss.batches) < 2:  # noqa: PLR2004
        return None
    hessian = Hessian(at.loss.part(0, 2), at.hessian.method, at.hessian.step)
    stop = extremes_converged(TOLERANCE, "largest")
    found = lanczos(hessian.product, top, at.level.half_steps, stop=stop, keep_basis=False)
    return float(found.values[-1])


def _step_error(at: LocalLoss, top: Tensor | None, value: float) -> float | None:
    """Relative change of λ_max when the step of the differences is halved."""
    if top is None or at.hessian.method != DIFFERENCES or value == 0:
        return None
    halved = Hessian(at.loss, DIFFERENCES, at.hessian.step / 2)
    return abs(float(top @ halved.product(top)) / value - 1)


def _along(at: LocalLoss, top: Tensor | None) -> float | None:
    return None if top is None else along(at.loss, top, at.gradients.loss, at.radii.rho)


def _escape(at: LocalLoss, bottom: Tensor | None, value: float) -> Escape | None:
    if bottom is None or value >= 0:
        return None
    other = at.sample.held_out
    held_out = None if other is None else MeanLoss(at.loss.model, other.batches(), at.spend)
    return escape(at.loss, bottom, at.gradients.loss, held_out=held_out)


def _quotients_entry(found: Losses) -> QuotientsEntry:
    return QuotientsEntry(
        value=found.loss.tolist(), weight=found.weight.tolist(), document=found.document.tolist()
    )


def _eigenvalue(
    found: Krylov, index: int, sampled: Losses | None, half: float | None = None
) -> EigenvalueEntry:
    sure = sampled and mean_loss(sampled)
    return EigenvalueEntry(
        value=float(found.values[index]),
        residual=float(found.residuals[index]),
        converged=bool(found.converged(TOLERANCE)[index]),
        half=half,
        sampling=sure and sure.estimate,
        error=sure and sure.error,
    )


def _cost(level: Level) -> float:
    fitted = 0.0 if level.method == EXACT else 2 * level.product  # the step, and half of it
    evaluations = 3 + (17 if level.ends == "both" else 0)
    products = level.steps + level.half_steps / 2
    return fitted + level.product * products + EVALUATION * evaluations


EXTREMES = Measure("extremes", lambda at: curvature(at).extremes, cost=_cost)
