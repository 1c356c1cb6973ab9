"""Paths between two models: a rule for every position t in [0, 1], and bends it may go through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.config.sets import DataSource
from mergekit_geo.config.training import CurveFitConfig
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.point import Point
from mergekit_geo.geometry.curves import Curve, rule_at
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.geometry.rule import Rule
from mergekit_geo.geometry.sphere import Slerp
from mergekit_geo.merging.blend import Blend


@dataclass(frozen=True)
class Effort:
    """Cost of fitting a path.

    Attributes:
        fitting: The settings.
        steps: That were taken until the fit that was kept was best.
        seed: Of that fit.
        seconds: Of all steps.
        train_data: What it was fitted on: settings of data, or an objective.
    """

    fitting: CurveFitConfig
    steps: int
    seed: int
    seconds: float
    train_data: DataSource


@dataclass(frozen=True)
class ModelPath:
    """A path from one model to another.

    Attributes:
        name: Kind of path.
        rule: Weighs the ends and the bends at t.
        bends: Anchors between the ends.
        key: What its points are known by; changes when the bends do.
        effort: What it took to fit it; None where nothing was fitted, or that is unknown.
    """

    name: str
    rule: Callable[[float], Rule]
    bends: tuple[Checkpoint, ...] = ()
    key: str = ""
    effort: Effort | None = None

    def at(self, ends: Sequence[Checkpoint], t: float) -> Blend:
        """The weights at t of the path between two models."""
        return Blend((*ends, *self.bends), self.rule(t))

    def point(self, ends: tuple[int, int], names: Sequence[str], t: float) -> Point:
        """The point at t of the path between two of several models; its ends are these models.

        Args:
            ends: Indices of the two.
            names: Of all models.
            t: The place.
        """
        if t in (0.0, 1.0):
            return Point.model(ends[int(t)], names[ends[int(t)]])
        title = f"{names[ends[0]]} to {names[ends[1]]}, {self.name}, t = {t:.3f}"
        key = f"{self.key} {ends[0]} {ends[1]} {t!r}"
        return Point(self.rule(t), title, key, ends, self.bends)


KINDS = {
    "linear": ModelPath("linear", lambda t: Linear((1 - t, t)), key="linear"),
    "slerp": ModelPath("slerp", lambda t: Slerp(t, "linear"), key="slerp"),
}
"""Kinds of path that need no fitting; a new one is one line here."""


def path(kind: str) -> ModelPath:
    """A path that needs no fitting.

    Raises:
        ArgumentError: No such kind.

    Example:
        >>> path("linear").rule(0.25).weights
        (0.75, 0.25)
    """
    if kind not in KINDS:
        raise ArgumentError(f"along {kind!r}: expected one of {', '.join(KINDS)}")
    return KINDS[kind]


def fitted(
    curve: Curve, bends: Sequence[Checkpoint], digest: str, effort: Effort | None = None
) -> ModelPath:
    """The path through fitted bends.

    Args:
        curve: How the bends are gone through.
        bends: In order.
        digest: Of their values.
        effort: What it took to fit them.
    """
    key = f"{curve} {digest}"
    return ModelPath(curve.kind, lambda t: rule_at(curve, t), tuple(bends), key, effort)
