"""Which planes a landscape measures, and what is known of them before anything is measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.runs import Run
from mergekit_geo.config.measures import LandscapeConfig
from mergekit_geo.curvature.model_eigenvectors import Eigenvectors, eigenvectors
from mergekit_geo.errors import ArgumentError
from mergekit_geo.evaluation.study import Study
from mergekit_geo.landscapes.planes import (
    LINE,
    PLANE,
    Directions,
    PlaneGrid,
    along_eigenvectors,
    around_model,
    line_and_direction,
    require_two,
    through_models,
)
from mergekit_geo.landscapes.trajectory import Trajectory, require_checkpoints
from mergekit_geo.modules.blend import Live

NARROW = 4
"""Bytes of an element in which small steps are not lost."""


@dataclass(frozen=True)
class LandscapePlan:
    """The planes of a landscape.

    Attributes:
        count: Models that span; those after them are marked.
        view: How they are looked at.
        seed: Of random directions.
        mode: Whether directions are kept in memory.
        through: The plane through three models.
        curved: Eigenvectors at each model.
        trajectory: The plane that follows trainings.
    """

    count: int
    view: LandscapeConfig
    seed: int
    mode: str
    through: PlaneGrid | None
    curved: Sequence[Eigenvectors]
    trajectory: Trajectory | None = None

    @property
    def points(self) -> int:
        """Number of points of all grids."""
        return self.view.points * (self.count if self.view.each else 1)

    def made(self, anchors: Sequence[Checkpoint], live: Live) -> Iterator[PlaneGrid]:
        """Make the planes one after another, so that only one's directions are in memory.

        Args:
            anchors: The models, marked ones last.
            live: A module of theirs.
        """
        if self.through is not None:
            yield replace(self.through, anchors=tuple(anchors[:PLANE]))
            return
        if self.trajectory is not None:
            yield self.trajectory.grid(anchors, self.view, self.mode)
            return
        directions = Directions(live, self.seed, self.mode, normalized=self.view.normalizes)
        if self.count == LINE and not self.view.each:
            yield line_and_direction(anchors, directions, self.view)
            return
        others = {i: anchors[i] for i in range(self.count, len(anchors))}
        around = self._around(anchors, directions)
        for i in range(self.count):
            if self.curved:
                yield along_eigenvectors(
                    i, anchors[i], others, self.curved[i], self._reach(), self.mode
                )
            else:
                yield around_model(i, anchors[i], others, directions, around)

    def _around(self, anchors: Sequence[Checkpoint], directions: Directions) -> LandscapeConfig:
        """Default radius: 1 filter norm, and where none is normalised that of the first model."""
        if self.view.normalizes or self.curved:
            return self.view
        return replace(self.view, radius=self.view.radius or directions.length_at(anchors[0]))

    def _reach(self) -> LandscapeConfig:
        """Default radius: where the parabola of the largest eigenvalue has risen by 1."""
        largest = max(found.values[0] for found in self.curved)
        rise = math.sqrt(2 / largest) if largest > 0 else 1.0
        return replace(self.view, radius=self.view.radius or rise)

    def warnings(self, live: Live) -> list[str]:
        """Warnings on the planes."""
        found = [text for curved in self.curved for text in curved.warnings]
        dtype = next(live.model.parameters()).dtype
        if self.through is None and dtype.itemsize < NARROW:
            found.append(
                f"the model runs in {dtype}, in which small steps along a direction are lost: "
                "--compute-dtype float32"
            )
        return found


def plan_landscape(
    study: Study, models: int, view: LandscapeConfig, runs: Sequence[Run] = ()
) -> LandscapePlan:
    """Find out which models span what, and refuse those that span nothing.

    Args:
        study: The models, those that are only to be marked last, and what is measured.
        models: How many were named to be looked at.
        view: How.
        runs: Trainings that the models are checkpoints of, where their plane is to follow these.

    Raises:
        ArgumentError: Models are equal or lie on one line.
        GeoError: As `eigenvectors`.
    """
    mode = study.compute.anchors_in_memory
    if runs:
        followed = Trajectory.of(study.anchors, runs, models)
        return LandscapePlan(models, view, study.seed, mode, None, (), followed)
    count, anchors = models if view.each else min(models, PLANE), study.anchors
    through, curved = None, []
    if count == PLANE and not view.each:
        through = through_models(anchors, view)
    elif count == LINE and not view.each:
        require_two(anchors)
    if view.hessian:
        curved = [eigenvectors(study, anchor) for anchor in anchors[:count]]
    return LandscapePlan(count, view, study.seed, mode, through, curved)


def check_request(models: int, view: LandscapeConfig, *, follows: bool = False) -> None:
    """Refuse invalid combinations of settings.

    Args:
        models: How many are looked at.
        view: How.
        follows: Whether the plane is that of a trajectory.

    Raises:
        ArgumentError: Eigenvectors at several models; no random direction to be normalised; a
            trajectory of too few checkpoints, or with another plane.
    """
    if follows:
        _check_trajectory(models, view)
        return
    if not view.normalizes and (view.hessian or (models >= PLANE and not view.each)):
        raise ArgumentError(
            "--filter-normalization says how long random directions are, and none is drawn",
            remedy="name one or two models, or add --each",
        )
    if view.hessian and models > 1 and not view.each:
        raise ArgumentError(
            f"eigenvectors are directions at one model, and there are {models}",
            remedy="--each looks around every one of them",
        )


def _check_trajectory(models: int, view: LandscapeConfig) -> None:
    require_checkpoints(models)
    wrong = {
        "--each": view.each,
        "--hessian-directions": view.hessian,
        "--radius": view.radius is not None,
        "--filter-normalization": not view.normalizes,
    }
    if found := [flag for flag, given in wrong.items() if given]:
        raise ArgumentError(
            f"a trajectory has a plane of its own, and {found[0]} is of another",
            remedy=f"leave {found[0]} out; --margin says how much is seen beyond the checkpoints",
        )
