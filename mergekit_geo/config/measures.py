"""How models are run, and what is measured around them: sharpness, radii, part of a plane."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mergekit_geo.clock import MINUTES
from mergekit_geo.config.docstrings import described
from mergekit_geo.config.option import check, option
from mergekit_geo.errors import ArgumentError

LAYER_BLOCKS = 8
"""Most blocks of consecutive layers that are told apart, where a model has more layers."""

SHARPNESS_LEVELS = ("quick", "full")
SHARPNESS = ("off", *SHARPNESS_LEVELS)
"""How much sharpness is measured beside a merge."""

FEWEST = 2
"""Points along an axis."""


COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
ANCHORS_IN_MEMORY = ("auto", "on", "off")
ON_OFF = ("on", "off")
PANEL = "Compute"
VIEW = "Plane and colours"


@described
@dataclass(frozen=True)
class SharpnessRadii:
    """Radii around a model within which sharpness is measured.

    The ball of SAM (Foret 2021) is Euclidean; the adaptive ball (Kwon 2021) is in units of the
    weights, and so is the noise of the adaptive average.

    Example:
        >>> SharpnessRadii(rho=0.1).adaptive
        0.5
    """

    rho: float = option(0.05, "Radius of the SAM ball: a distance in weight space.")
    adaptive: float = option(0.5, "Radius of the adaptive ball, in units of the weights.", "")
    noise: float = option(0.05, "Standard deviation of the noise, relative to each weight.", "")

    def __post_init__(self) -> None:
        for radius in (self.rho, self.adaptive, self.noise):
            check_rho(radius)


def check_rho(rho: float) -> float:
    """Check that a radius is positive and finite, and return it.

    Raises:
        ArgumentError: It is not a positive number.
    """
    if not 0 < rho < math.inf:
        raise ArgumentError(f"rho: expected a positive number, found {rho:g}")
    return rho


@described
@dataclass(frozen=True)
class LandscapeConfig:
    """Which part of a plane is looked at, and how it is shown.

    The margin is taken to the next whole step, so that models lie on grid lines. Along eigenvectors
    the radius is by default where the parabola of the largest eigenvalue rises by 1.

    Example:
        >>> LandscapeConfig(grid=11, log=True).points
        121
    """

    grid: int = option(21, "Points along each axis.", least=FEWEST)
    margin: float = option(
        1 / 3, "Margin around two or more models, as a share of their extent.", panel=VIEW
    )
    radius: float | None = option(
        None, "Radius around one model, in filter norms; a distance in weight space with "
        "--hessian-directions and without filter normalization.", panel=VIEW,
        unset="1, where the parabola of λ_max rises by 1, or the norm of the first model's filters",
    )  # fmt: skip
    each: bool = option(
        False, "Draw a landscape around every model, all on one colour scale.", panel=VIEW
    )
    hessian: bool = option(
        False, "Take the top two eigenvectors of the Hessian as axes.", "--hessian-directions",
        panel=VIEW,
    )  # fmt: skip
    filter_normalization: str = option(
        "on", "Scale random directions to the norm of every filter (Li 2018); off follows them as "
        "they are drawn, by distance.", panel=VIEW, choices=ON_OFF,
    )  # fmt: skip
    low: float | None = option(None, "Low end of the colour scale; the lowest loss if None.", "")
    high: float | None = option(None, "High end of the colour scale; the highest loss if None.", "")
    log: bool = option(
        False, "Colour by the logarithm of the height above the lowest loss.", panel=VIEW
    )

    def __post_init__(self) -> None:
        if not 0 <= self.margin < math.inf:
            raise ArgumentError(f"margin must be a number from 0 on, found {self.margin:g}")
        if self.radius is not None and not 0 < self.radius < math.inf:
            raise ArgumentError(f"radius must be a number above 0, found {self.radius:g}")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ArgumentError(
                f"the colours' range begins at {self.low:g} and ends at {self.high:g}",
                remedy="give the lower number first",
            )
        check(self)

    @property
    def normalizes(self) -> bool:
        """Whether random directions are normalised filter by filter."""
        return self.filter_normalization == "on"

    @property
    def points(self) -> int:
        """Number of points of one grid."""
        return self.grid**2


@described
@dataclass(frozen=True)
class Compute:
    """How models are run.

    Without a device it is the accelerator, if there is one. Without a dtype it is float32 on a CPU
    and the checkpoint's own on an accelerator. Parents are kept in memory by themselves (`auto`)
    where they are small.

    Example:
        >>> Compute(device="cpu", budget=30).budget
        30
    """

    device: str | None = option(
        None, "Device that models are run and merged on, such as cpu or cuda.", panel=PANEL,
        unset="an accelerator to run on, if there is one; the CPU to merge on",
    )  # fmt: skip
    dtype: str | None = option(
        None, "Dtype that models are run in.", "--compute-dtype", panel=PANEL,
        choices=COMPUTE_DTYPES, unset="float32 on a CPU, the checkpoint's own on an accelerator",
    )  # fmt: skip
    budget: float = option(
        MINUTES, "Minutes that all measurements of a command may take; a smaller sample is taken "
        "where they would take more. 0 sets no limit.", panel=PANEL,
    )  # fmt: skip
    trust_remote_code: bool = option(
        False, "Run Python code that comes with a model or a dataset.", panel=PANEL
    )
    anchors_in_memory: str = option(
        "auto", "Keep the parents in memory while points between them are measured; auto does so "
        "where they are small beside the free memory.", panel=PANEL, choices=ANCHORS_IN_MEMORY,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check(self)
        if self.budget < 0:
            raise ArgumentError(f"the budget is in minutes, found {self.budget:g}")
