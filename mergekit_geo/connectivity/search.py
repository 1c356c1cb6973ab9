"""Fits from one seed after another, watched on held-out examples, kept while they run."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mergekit_geo.config.training import CurveFitConfig
from mergekit_geo.connectivity.curves import Bends
from mergekit_geo.connectivity.fit import Fit
from mergekit_geo.connectivity.neb import Band
from mergekit_geo.connectivity.paths import Effort, ModelPath, fitted
from mergekit_geo.errors import DataError
from mergekit_geo.evaluation.batches import Shuffled
from mergekit_geo.geometry.curves import Curve, Polygon, Still, curve_of, rule_at
from mergekit_geo.modules.blend import in_place
from mergekit_geo.progress import Steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mergekit_geo.config.sets import DataSource
    from mergekit_geo.connectivity.state import FitState
    from mergekit_geo.evaluation.aim import Aim
    from mergekit_geo.evaluation.objective import Objective
    from mergekit_geo.tasks.losses import Indices

WATCHED = (0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9)
"""Positions on the curve where the held-out loss is measured during the fit."""
MIDDLE = 0.5
WATCHED_EXAMPLES = 64
EVERY = 50
"""Steps between two such measurements; the state is saved as often."""
MOST_STEPS, PATIENCE, GAIN = 2000, 4, 0.002
"""Stopping without `steps`: most steps; looks without gain before the end; least gain."""


@dataclass
class Found:
    """The best curve so far.

    Attributes:
        vectors: Its bends.
        highest: Highest held-out loss seen on it.
        places: Of its corners, where it is a chain that got some.
        seed: Of its fit.
        steps: It has been fitted for.
        seconds: Of all steps of all fits so far.
        history: Step and highest loss of the fit that is under way.
        best_history: The same of the fit that was best.
    """

    vectors: list[Tensor] = field(default_factory=list)
    highest: float = math.inf
    places: list[float] | None = None
    seed: int = 0
    steps: int = 0
    seconds: float = 0.0
    history: list[tuple[int, float]] = field(default_factory=list)
    best_history: list[tuple[int, float]] = field(default_factory=list)

    def notes(self, restart: int) -> dict[str, Any]:
        """Everything but the vectors, as a JSON value."""
        own = {key: value for key, value in vars(self).items() if key != "vectors"}
        return {"restart": restart, **own}


class CurveSearch:
    """Fits curves between two models and keeps the best.

    Args:
        aim: By which curves are compared on the selection half; the module of its evaluator is
            the one that is trained.
        training: What is fitted on.
        fitting: How.
        seed: Of the first fit.
        state: Where an unfinished fit is kept.
        curve: To be fitted; that of the settings if None.

    Raises:
        UnsupportedError: Disk and memory names of the weights differ.
    """

    def __init__(
        self,
        aim: Aim,
        training: Objective,
        fitting: CurveFitConfig,
        seed: int,
        state: FitState,
        curve: Curve | None = None,
    ) -> None:
        self.aim, self.evaluator = aim, (evaluator := aim.evaluator)
        why, remedy = "a path is fitted by gradients", "linear and slerp need none"
        name = evaluator.study.anchors[0].name
        self.live = in_place(evaluator.live, why, name, remedy)
        self.training, self.fitting = training, fitting
        self.seed, self.state, self.progress = seed, state, evaluator.study.progress
        self.curve = curve or curve_of(fitting.kind, fitting.corners)
        self.watched = (MIDDLE,) if isinstance(self.curve, Still) else WATCHED
        self.rows = [_thinned(one.split.selection) for one in evaluator.every]
        self.found = Found()
        self._steps = Steps("path")

    def run(self) -> Bends:
        """The bends of the best fit.

        Raises:
            DataError: The loss is not a number; what was fitted before that is kept.
        """
        notes = self.state.notes()
        first = 0
        if notes is not None:
            first = int(notes.pop("restart"))
            self.found = Found(vectors=[], **notes)
        for restart in range(first, self.fitting.restarts):
            self._fit(restart, resume=notes is not None and restart == first)
        bends = self._bends(self.found.places)
        for vector, best in zip(bends.vectors, self.found.vectors, strict=True):
            vector.copy_(best)
        return bends

    def _bends(self, places: Sequence[float] | None) -> Bends:
        """New bends on the straight line; a chain's stand at the given places if there are some."""
        curve = self.curve if places is None else Polygon(tuple(places), self.curve.kind)
        return Bends(self.evaluator.anchors, curve, self.live)

    def _begin(self, seed: int, *, resume: bool) -> Fit | Band:
        places = self.state.places() if resume else None
        batches = Shuffled(self.training, self.fitting.batch_size, seed)
        parts = self._bends(places), self.live, batches, self.fitting, seed
        return Band(*parts, self._losses) if self.curve.kind == "neb" else Fit(*parts)

    def _fit(self, restart: int, *, resume: bool) -> None:
        seed = self.seed + restart
        fit = self._begin(seed, resume=resume)
        self.progress.phase(self._title(seed), self._most_steps)
        if resume:
            self.found.vectors = self.state.restore(fit)
            self.progress.advance(fit.done)
        else:
            self.found.history = []
            self._look(fit, restart, math.nan)
        while not self._is_finished(fit):
            loss = self._step(fit, restart)
            if fit.done % EVERY == 0 or fit.done == self._most_steps:
                self._look(fit, restart, loss)
        fit.release()

    def _step(self, fit: Fit | Band, restart: int) -> float:
        began = time.monotonic()
        try:
            loss = fit.step()
        except DataError:
            self.state.save(fit, self.found.vectors, self.found.notes(restart))
            raise
        self.found.seconds += time.monotonic() - began
        self.progress.advance(1)
        self._steps.expect(self.progress, self._most_steps - fit.done)
        return loss

    @property
    def _most_steps(self) -> int:
        if self.curve.kind == "neb":
            return self.fitting.length
        return MOST_STEPS if self.fitting.steps is None else self.fitting.steps

    def _title(self, seed: int) -> str:
        if isinstance(self.curve, Still):
            name = self.evaluator.anchors[int(self.curve.start)].name
            return f"training {name} further"
        return f"fitting a path (seed {seed})"

    def _is_finished(self, fit: Fit | Band) -> bool:
        if self.fitting.steps is not None or self.curve.kind == "neb":
            return fit.done >= self._most_steps
        seen = [highest for _, highest in self.found.history]
        best = int(np.argmin(seen))
        recent = len(seen) - 1 - best
        return fit.done >= MOST_STEPS or recent >= PATIENCE or self._stands_still(seen)

    def _stands_still(self, seen: list[float]) -> bool:
        if len(seen) <= PATIENCE:
            return False
        return seen[-1 - PATIENCE] - min(seen[-PATIENCE:]) < GAIN * abs(seen[-1 - PATIENCE])

    def _look(self, fit: Fit | Band, restart: int, loss: float) -> None:
        """Measure the curve, keep it if it is the best, and keep the state."""
        highest = max(self._losses(fit.bends, self.watched))
        found = self.found
        found.history.append((fit.done, highest))
        if highest < found.highest or not found.vectors:
            found.vectors = [vector.clone() for vector in fit.bends.vectors]
            found.highest, found.seed, found.steps = highest, fit.seed, fit.done
            found.places = _places(fit.bends.curve)
            found.best_history = list(found.history)
        self.state.save(fit, found.vectors, found.notes(restart))
        told = "" if math.isnan(loss) else f"training loss {loss:.4f}, "
        where = "" if isinstance(self.curve, Still) else "highest "
        self.progress.say(f"step {fit.done}: {told}{where}held-out loss {highest:.4f}")

    def _losses(self, bends: Bends, places: Sequence[float]) -> list[float]:
        found = []
        for t in places:
            self.live.put(bends.at(rule_at(bends.curve, t)))
            self.evaluator.refresh(self.live.model)
            measured = [
                one.module_evaluator.on(rows, self.live.model)
                for one, rows in zip(self.evaluator.every, self.rows, strict=True)
            ]
            found.append(self.aim.of(measured, self.rows))
        return found


def _thinned(rows: Indices) -> Indices:
    return rows[:: max(1, len(rows) // WATCHED_EXAMPLES)]


def _places(curve: Curve) -> list[float] | None:
    """Positions of the corners of a chain; None for curves that space them evenly."""
    return list(curve.places) if curve.kind == "neb" and isinstance(curve, Polygon) else None


def effort_of(found: Found, fitting: CurveFitConfig, train_data: DataSource) -> Effort:
    """Cost of fitting a path."""
    return Effort(fitting, found.steps, found.seed, found.seconds, train_data)


def path_through(bends: Bends, effort: Effort | None = None) -> ModelPath:
    """The path through bends that were just fitted."""
    digest = hashlib.sha256()
    for vector in bends.vectors:
        digest.update(vector.cpu().numpy().tobytes())
    return fitted(bends.curve, bends.anchors, digest.hexdigest(), effort)
