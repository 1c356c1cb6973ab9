"""Whether a point is critical, and of which kind: gradient first, then the spectrum's ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor

from mergekit_geo.config.escape import FALL, EscapeConfig
from mergekit_geo.curvature.extremes import TOLERANCE
from mergekit_geo.curvature.gradients import GroupGradients
from mergekit_geo.curvature.hessian import Hessian
from mergekit_geo.curvature.lanczos import ROUNDING, Krylov, extremes_converged, random_start
from mergekit_geo.curvature.largest import krylov_of
from mergekit_geo.curvature.levels import PRODUCT_COST
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.curvature.measure import SHARE
from mergekit_geo.curvature.stationarity import TAU, verdict
from mergekit_geo.errors import UnsupportedError
from mergekit_geo.evaluation.objective import Objective
from mergekit_geo.evaluation.statistics import mean_loss
from mergekit_geo.modules.vectors import norm
from mergekit_geo.printable import in_gigabytes
from mergekit_geo.records.escape import CriticalEntry, EscapeVerdict

FURTHEST = 2.0
"""Distance in weight space within which a Hessian that vanishes changes no loss."""


@dataclass(frozen=True)
class TrainingLoss:
    """The training loss as a function of the weights, on a sample or on all of the data.

    Attributes:
        mean: As a function of the weights; its module stands at the point that is meant.
        objective: The same examples, measured one by one.
        whole: Whether these are all training data.
    """

    mean: MeanLoss
    objective: Objective
    whole: bool


def cost_of(settings: EscapeConfig, batches: int) -> float:
    """Most gradients of a batch that one look at a point takes."""
    return batches * (settings.lanczos_steps * PRODUCT_COST + 2)


def require_memory(loss: MeanLoss, steps: int) -> None:
    """Refuse a search for λ_min whose basis memory does not hold.

    Raises:
        UnsupportedError: With what it needs and what there is.
    """
    needed = (min(steps, loss.weights.size) + 4) * loss.weights.size * loss.weights.dtype.itemsize
    free = psutil.virtual_memory().available
    if needed > SHARE * free:
        raise UnsupportedError(
            f"{steps} Lanczos steps need {in_gigabytes(needed)} of memory for their basis, and "
            f"{in_gigabytes(free)} are free",
            remedy="fewer --lanczos-steps",
        )


def fall_of(settings: EscapeConfig, loss: float) -> float:
    """f, the fall of the training loss that counts."""
    return FALL * abs(loss) if settings.fall is None else settings.fall


def rounding_of(loss: float, dtype: torch.dtype) -> float:
    """What a loss may change by in rounding alone."""
    return ROUNDING * torch.finfo(dtype).eps * abs(loss)


def critical_point(
    at: TrainingLoss, settings: EscapeConfig, seed: int
) -> tuple[CriticalEntry, Tensor]:
    """Gradient and extreme eigenvalues where the module stands.

    Args:
        at: The loss there.
        settings: How far Lanczos goes.
        seed: Of its start.

    Returns:
        What was found, and the eigenvector of λ_min, a unit vector (n,).

    Raises:
        DataError: The loss is not a number.
    """
    weights = at.mean.weights
    found, gradient, slope = _slope(at)
    hessian = Hessian(at.mean)
    krylov = krylov_of(
        hessian, random_start(weights.size, weights.dtype, seed), settings.lanczos_steps,
        stop=extremes_converged(TOLERANCE, "both"), keep_basis=True,
    )  # fmt: skip
    most = float(abs(krylov.values).max())
    nothing = rounding_of(found, weights.dtype)
    vanishes = most * FURTHEST**2 / 2 <= nothing
    entry = CriticalEntry(
        loss=found,
        gradient_norm=norm(gradient),
        **slope,
        threshold=_threshold(at, settings, found, most, nothing if vanishes else None),
        **_ends(krylov),
        tau=TAU * most,
        vanishes=vanishes,
        steps=len(krylov.diagonal),
        method=hessian.method,
        reason=hessian.reason,
    )
    return entry, krylov.vector(0)


def _slope(at: TrainingLoss) -> tuple[float, Tensor, dict[str, float | None]]:
    """Loss, gradient, and of a sample what it tells of the gradient on all training data."""
    if at.whole:
        return *at.mean.gradient(), {}
    groups = GroupGradients.of(at.mean)
    error = mean_loss(at.objective.measure(at.mean.model)).error
    if groups.standard_error is None:
        return groups.loss, groups.gradient, {"loss_error": error}
    told = {
        "loss_error": error,
        "squared_norm": groups.squared_norm,
        "squared_norm_error": groups.standard_error,
    }
    return groups.loss, groups.gradient, told


def _threshold(
    at: TrainingLoss, settings: EscapeConfig, loss: float, curvature: float, nothing: float | None
) -> float | None:
    """Norm up to which the gradient is none; None where that is told by its noise."""
    if settings.gradient_threshold is not None:
        return settings.gradient_threshold
    if nothing is not None:
        return nothing
    if at.whole or settings.fall is not None:
        return math.sqrt(2 * curvature * fall_of(settings, loss))
    return None


def _ends(krylov: Krylov) -> dict[str, float | bool]:
    converged = krylov.converged(TOLERANCE)
    return {
        "lambda_max": float(krylov.values[-1]),
        "lambda_max_residual": float(krylov.residuals[-1]),
        "lambda_min": float(krylov.values[0]),
        "lambda_min_residual": float(krylov.residuals[0]),
        "converged": bool(converged[0] and converged[-1]),
    }


def standing(found: CriticalEntry) -> EscapeVerdict | None:
    """Why there is no eigenvector to step along; None where there is one.

    Args:
        found: The point.

    Example:
        >>> entry = CriticalEntry(
        ...     loss=1.0, gradient_norm=0.5, threshold=0.1, lambda_max=2.0, lambda_max_residual=0.0,
        ...     lambda_min=-1.0, lambda_min_residual=0.0, converged=True, tau=2e-3, vanishes=False,
        ...     steps=9, method="exact")
        >>> standing(entry).kind, standing(entry.model_copy(update={"gradient_norm": 0.0}))
        ('not at a critical point', None)
    """
    sloped = _sloped(found)
    if sloped is not None:
        return sloped
    if found.vanishes:
        return EscapeVerdict(
            kind="degenerate",
            sentence="degenerate: second order cannot tell: the Hessian is zero up to rounding",
        )
    if found.is_negative:
        return None
    text = f"no negative curvature found in {found.steps} steps: λ_min is {lambda_min(found)}"
    further = "" if found.converged else "more --lanczos-steps look further: it has not converged"
    return EscapeVerdict(kind="no negative curvature", sentence=text, advice=further)


def lambda_min(found: CriticalEntry) -> str:
    """λ_min with its residual, in words."""
    return f"{found.lambda_min:.3g} ± {found.lambda_min_residual:.1g}"


TRAIN = "train it further first (geo-merge finetune): a descent needs no way out of a saddle here"


def _sloped(found: CriticalEntry) -> EscapeVerdict | None:
    """What the gradient says; None where it does not matter."""
    kind, size = "not at a critical point", found.gradient_norm
    if found.threshold is not None:
        if size <= found.threshold:
            return None
        text = f"{kind}: the gradient has a norm of {size:.3g}, above {found.threshold:.3g}"
        return EscapeVerdict(kind=kind, sentence=text, advice=TRAIN)
    is_told = found.squared_norm is not None
    told = verdict(
        loss=found.loss,
        loss_error=found.loss_error,
        squared_norm=found.squared_norm if is_told else size**2,
        squared_norm_error=found.squared_norm_error if is_told else 0.0,
        lambda_max=found.curvature,
        lambda_min=None,
        residual=None,
        steps=found.steps,
        lowered=None,
    )
    if told.kind == "not stationary":
        return EscapeVerdict(kind=kind, sentence=f"{kind}: {told.sentence}", advice=TRAIN)
    if told.kind == "cannot tell":
        return EscapeVerdict(
            kind="cannot tell", sentence=told.sentence, advice="more --examples would tell"
        )
    return None
