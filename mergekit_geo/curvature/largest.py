"""λ_max alone, at the price of a few gradients: for choosing between points."""

from __future__ import annotations

from torch import Tensor

from mergekit_geo.curvature.hessian import Hessian
from mergekit_geo.curvature.lanczos import Krylov, Stop, extremes_converged, lanczos, random_start
from mergekit_geo.curvature.levels import DIFFERENCES
from mergekit_geo.curvature.mean_loss import MeanLoss

STEPS, TOLERANCE = 12, 1e-2
FEWEST = 4
"""Steps of Lanczos that are left, or it does not begin again."""


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
    stop = extremes_converged(TOLERANCE, "largest")
    return float(krylov_of(hessian, start, STEPS, stop=stop, keep_basis=False).values[-1])


def krylov_of(
    hessian: Hessian, start: Tensor, steps: int, *, stop: Stop, keep_basis: bool
) -> Krylov:
    """Lanczos, with differences whose step suits the curvature that it finds.

    A step that is fitted along the start is too long along an eigenvector of much larger curvature,
    where the loss is no parabola that far: with it 8 was found for a true λ_max of 56. Lanczos then
    begins again, with a shorter step.

    Args:
        hessian: Exact, or by differences.
        start: (n,) of any length.
        steps: At most so many products in all.
        stop: Asked after every step.
        keep_basis: If not, only the last two vectors are kept.
    """
    if hessian.method == DIFFERENCES:
        hessian.fit_step(start / start.norm())
    again, left = start, steps

    def ends(krylov: Krylov) -> bool:
        enough = left - len(krylov.diagonal) >= FEWEST
        return stop(krylov) or (enough and hessian.is_too_long(_largest(krylov)))

    while True:
        found = lanczos(hessian.product, again, left, stop=ends, keep_basis=keep_basis)
        left -= len(found.diagonal)
        if left < FEWEST or not hessian.shorten_step(_largest(found)):
            return found
        again = start + found.vector(-1) * start.norm() if keep_basis else start


def _largest(krylov: Krylov) -> float:
    return float(abs(krylov.values).max())
