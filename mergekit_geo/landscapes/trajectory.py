"""The plane that follows trainings: principal directions of their checkpoints, as anchors.

A direction is a sum of checkpoints that is made where it is read, so no matrix of weights is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.reading import Bytes
from mergekit_geo.checkpoints.runs import Run
from mergekit_geo.config.measures import LandscapeConfig
from mergekit_geo.errors import ArgumentError
from mergekit_geo.geometry.gram import Gram
from mergekit_geo.geometry.principal import FEWEST, PrincipalPlane, walk_shares
from mergekit_geo.landscapes.directions import values_of
from mergekit_geo.landscapes.grid import beyond
from mergekit_geo.landscapes.planes import PlaneGrid, gram_at, require_different
from mergekit_geo.merging.blend import has_statistics
from mergekit_geo.modules.held import hold
from mergekit_geo.records.landscape import AxisEntry, RunEntry, TrajectoryEntry


@dataclass(frozen=True)
class Trajectory:
    """The plane of the principal directions of checkpoints.

    Attributes:
        runs: The trainings.
        order: Numbers of all models, the one that the plane goes through first.
        count: How many of them are checkpoints.
        principal: The plane.
    """

    runs: tuple[Run, ...]
    order: tuple[int, ...]
    count: int
    principal: PrincipalPlane

    @classmethod
    def of(cls, anchors: Sequence[Checkpoint], runs: Sequence[Run], count: int) -> Trajectory:
        """The plane of the first `count` models, through the end of the first run.

        Args:
            anchors: The checkpoints; those after them are placed on the plane alone.
            runs: The trainings that they are of.
            count: How many of them are checkpoints.

        Raises:
            ArgumentError: Fewer than three, equal ones, or all on one line.
        """
        require_checkpoints(count)
        first, last = runs[0].models[0], runs[0].models[-1]
        order = (last, *(i for i in range(len(anchors)) if i != last))
        gram = gram_at([anchors[i] for i in order])
        for run in runs:  # several may begin at the same weights
            _require_steps(run, anchors, order, gram)
        try:
            principal = PrincipalPlane.of(gram, count, order.index(first))
        except ArgumentError as error:
            raise ArgumentError(
                f"the {count} checkpoints lie on one line, and many planes go through it",
                remedy="name checkpoints of which not all are mixtures of two",
            ) from error
        return cls(tuple(runs), order, count, principal)

    def grid(self, anchors: Sequence[Checkpoint], view: LandscapeConfig, mode: str) -> PlaneGrid:
        """The part of the plane on which the checkpoints lie.

        Args:
            anchors: All models, as in `of`.
            view: What part of the plane is looked at.
            mode: Whether the directions are kept in memory.
        """
        plane, weights = self.principal.plane, self.principal.weights_2k
        seen = [anchors[i] for i in self.order[: self.count]]
        made = [
            principal_direction(seen, row, f"direction {i + 1}") for i, row in enumerate(weights)
        ]
        places = {
            i: plane.place(self.principal.place_number(place)) for place, i in enumerate(self.order)
        }
        ends = [places[i] for i in self.order[: self.count]]
        across, up = [place.x for place in ends], [place.y for place in ends]
        x, y = (beyond(min(c), max(c), view.margin, view.grid) for c in (across, up))
        first, second = (
            AxisEntry(kind="principal", unit="distance", length=1.0, explained=share)
            for share in self.principal.shares
        )
        return PlaneGrid(
            "trajectory", self.order[:1], (seen[0], *hold(made, mode)), plane,
            dict(sorted(places.items())), x, y, (first, second), self._key, self._entry(),
        )  # fmt: skip

    @property
    def _key(self) -> str:
        digest = hashlib.sha256(self.principal.weights_2k.tobytes()).hexdigest()[:16]
        return f"principal {digest} {self.order}"

    def _entry(self) -> TrajectoryEntry:
        runs = [
            RunEntry(name=run.name, marks=list(run.models), steps=list(run.steps))
            for run in self.runs
        ]
        walk = list(walk_shares(times_of(self.runs[0]))) if len(runs) == 1 else None
        return TrajectoryEntry(runs=runs, random_walk=walk)


def require_checkpoints(count: int) -> None:
    """Refuse to follow a training of which too little is known.

    Raises:
        ArgumentError: There are fewer than three checkpoints.
    """
    if count < FEWEST:
        raise ArgumentError(
            f"a trajectory needs at least {FEWEST} checkpoints, found {count}",
            remedy="name more, such as --checkpoints 'run/checkpoint-*'",
        )


def times_of(run: Run) -> list[float]:
    """When each checkpoint was made: by its step, evenly where one has none.

    A checkpoint without a step that stands before all others was made at step 0.

    Example:
        >>> times_of(Run("run", (0, 1, 2), (None, 50, 80)))
        [0.0, 50.0, 80.0]
        >>> times_of(Run("run", (0, 1, 2), (50, 80, None)))
        [0.0, 1.0, 2.0]
    """
    known = [step for step in run.steps[1:] if step is not None]
    start = 0 if run.steps[0] is None else run.steps[0]
    times = [start, *known]
    if len(times) < len(run.steps) or any(a >= b for a, b in pairwise(times)):
        times = list(range(len(run.steps)))
    return [float(time) for time in times]


class _Sum:
    """Parameters of checkpoints, each times its weight; running statistics stay."""

    def __init__(self, models: Sequence[Checkpoint], weights: Sequence[float]) -> None:
        self.models, self.weights = models, weights
        self.tensors: Mapping[str, TensorInfo] = {
            key: TensorInfo("F64" if info.dtype == "F64" else "F32", info.shape)
            for key, info in models[0].tensors.items()
            if info.is_float
        }

    def read(self, name: str, start: int, stop: int, out: Bytes) -> None:
        """Put elements `start` to `stop` of the flattened tensor into `out`."""
        dtype = np.float64 if self.tensors[name].dtype == "F64" else np.float32
        total = np.zeros(stop - start)
        if not has_statistics([name]):
            for model, weight in zip(self.models, self.weights, strict=True):
                total += weight * values_of(model, name, start, stop)
        out[: (stop - start) * np.dtype(dtype).itemsize].view(dtype)[:] = total

    def fingerprint(self) -> object:
        """The models', with their weights."""
        return [[model.fingerprint() for model in self.models], list(self.weights)]


def principal_direction(
    models: Sequence[Checkpoint], weights: Sequence[float], name: str
) -> Checkpoint:
    """A sum of checkpoints, as an anchor that is read like one.

    Args:
        models: The checkpoints.
        weights: Of each; a direction's sum to 0.
        name: What a report calls it.
    """
    made = _Sum(models, [float(weight) for weight in weights])
    return Checkpoint(name, made.tensors, made.read, made.fingerprint)


def _require_steps(
    run: Run, anchors: Sequence[Checkpoint], order: Sequence[int], gram: Gram
) -> None:
    """Refuse a training of which two checkpoints are equal."""
    places = [order.index(i) for i in run.models]
    own = gram.distances[np.ix_(places, places)]
    require_different([anchors[i] for i in run.models], own, "leave one of them out")
