"""λ_max alone, at the price of a few gradients: for choosing between points."""

from __future__ import annotations

from mergekit_geo.curvature.hessian import Hessian
from mergekit_geo.curvature.lanczos import extremes_converged, lanczos, random_start
from mergekit_geo.curvature.levels import DIFFERENCES
from mergekit_geo.curvature.mean_loss import MeanLoss

STEPS, TOLERANCE = 12, 1e-2


def lambda_max(loss: MeanLoss, seed: int = 0) -> float:
    """The largest eigenvalue of the Hessian of a mean loss, by Lanczos on differences.

    Args:
        loss: Of a module in float32 or float64.
        seed: Of the start; points that are compared share it.

    Returns:
        The Ritz value after at most 12 steps, or when its residual is within 1 %.

    Raises:
        DataError: The loss is not a number.
    """
    hessian = Hessian(loss, DIFFERENCES)
    start = random_start(loss.weights.size, loss.weights.dtype, seed)
    hessian.fit_step(start)
    stop = extremes_converged(TOLERANCE, "largest")
    found = lanczos(hessian.product, start, STEPS, stop=stop, keep_basis=False)
    return float(found.values[-1])
