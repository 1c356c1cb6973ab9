"""The way out of a saddle, stage by stage: look, step along v_min, descend, look again.

After each stage, and every so many steps of the descent, all that the next one needs is kept: a run
that is killed goes on to the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mergekit_geo.config.escape import NONE, SGD, EscapeConfig
from mergekit_geo.curvature.critical import TrainingLoss, cost_of, critical_point, fall_of, standing
from mergekit_geo.curvature.descent import Constants, Descent, DescentState, in_ball
from mergekit_geo.curvature.escape_state import EscapeState
from mergekit_geo.curvature.escape_words import ended, not_taken
from mergekit_geo.curvature.line_search import HeldOut, change, line_search
from mergekit_geo.curvature.sample import Spent
from mergekit_geo.evaluation.batches import Shuffled
from mergekit_geo.evaluation.objective import TaskObjective
from mergekit_geo.modules.vectors import norm
from mergekit_geo.progress import Progress, Silent, Steps
from mergekit_geo.records.escape import (
    CriticalEntry,
    DescentEntry,
    EscapeEntry,
    EscapeStep,
    EscapeVerdict,
)
from mergekit_geo.tasks.losses import Losses

FAR = 0.1
"""Radius of perturbations where the Hessian vanishes, in units of |θ|, or of 1 if that is less."""


@dataclass
class Escaping:
    """One way out of one point.

    Attributes:
        at: The training loss, its module at the point.
        settings: How.
        seed: Of Lanczos, of perturbations, of the order of batches.
        held_out: Losses to check on; None where there are none.
        everything: All training data in its order, for SGD.
        state: Keeps what a killed run goes on from.
        progress: Told what is going on.
    """

    at: TrainingLoss
    settings: EscapeConfig
    seed: int
    held_out: HeldOut | None = None
    everything: Shuffled | None = None
    state: EscapeState = field(default_factory=lambda: EscapeState(None))
    progress: Progress = field(default_factory=Silent)

    def __post_init__(self) -> None:
        self._vectors, self._notes = self.state.load()
        self._home = self.at.mean.weights.vector()

    def run(self) -> EscapeEntry:
        """Leave the saddle, if there is one; the module stands afterwards where that led.

        Raises:
            DataError: The loss is not a number.
        """
        before = self._look("before", "direction")
        self.progress.say(
            f"gradient norm {before.gradient_norm:.3g}, λ_min {before.lambda_min:.3g}, λ_max "
            f"{before.lambda_max:.3g}"
        )
        refusal, step = standing(before), None
        if refusal is not None and refusal.kind != "degenerate":
            return self._entry(before, refusal)
        if refusal is None:
            step = self._step(before)
            if (told := not_taken(before, step)) is not None:
                self.at.mean.weights.put(self._home)
                return self._entry(before, told, step=step)
        descent = self._descent(before)
        return self._ended(before, step, descent)

    def _look(self, name: str, vector: str = "") -> CriticalEntry:
        """Gradient and curvature where the module stands, or as an earlier run found them."""
        if name in self._notes:
            return CriticalEntry.model_validate(self._notes[name])
        mean, count = self.at.mean, len(self.at.mean.batches)
        mean.spend = Spent(self.progress, f"curvature {name}", cost_of(self.settings, count))
        found, lowest = critical_point(self.at, self.settings, self.seed)
        mean.spend = _nothing
        self._keep({vector: lowest} if vector else {}, {name: found.model_dump(mode="json")})
        return found

    def _step(self, before: CriticalEntry) -> EscapeStep:
        """Along v_min, in the better of both directions."""
        weights = self.at.mean.weights
        if "step" in self._notes:
            step = EscapeStep.model_validate(self._notes["step"])
        else:
            step = line_search(
                self.at.mean, self._vectors["direction"], before.lambda_min,
                fall_of(self.settings, before.loss), self.held_out,
            )  # fmt: skip
            self._keep({}, {"step": step.model_dump(mode="json")})
        moved = self._home.add(self._vectors["direction"], alpha=step.length)
        weights.put(moved)
        return step

    def _descent(self, before: CriticalEntry) -> DescentEntry | None:
        """What follows the step."""
        settings, mean = self.settings, self.at.mean
        if settings.then == NONE or not settings.steps:
            return None
        constants = self._constants(before)
        state = DescentState(**{"rate": constants.rate, **self._notes.get("descent", {})})
        state.anchor = self._vectors.get("anchor")
        state.history = [tuple(one) for one in state.history]  # type: ignore[misc]
        if "weights" in self._vectors:
            mean.weights.put(self._vectors["weights"])
            self.progress.say(f"resumed at step {state.done} of {settings.steps}")
        batches = self.everything if settings.then == SGD else None
        descent = Descent(mean, settings, constants, state, self.seed, batches)
        self.progress.phase("descent", settings.steps)
        self.progress.advance(state.done)
        descent.run(lambda: self._keep_descent(state), self._advance(state))
        self._keep_descent(state)
        return descent.entry()

    def _constants(self, before: CriticalEntry) -> Constants:
        """Scale steps by the curvature here; where that vanishes, by that a little beside it."""
        if "constants" in self._notes:
            return Constants(**self._notes["constants"])
        fall, settings = fall_of(self.settings, before.loss), self.settings
        if not before.vanishes:
            found = Constants.of(settings, before.curvature, fall)
        else:
            found = self._beside(fall)
        self._keep({}, {"constants": vars(found)})
        return found

    def _beside(self, fall: float) -> Constants:
        weights, settings = self.at.mean.weights, self.settings
        radius = settings.radius or FAR * max(norm(self._home), 1.0)
        noise = in_ball(weights.size, radius, weights.dtype, self.seed)
        with weights.moved(noise):
            beside, _ = critical_point(self.at, settings, self.seed)
        found = Constants.of(settings, beside.curvature or 1.0, fall)
        return Constants(found.rate, fall, radius, settings.gradient_threshold)

    def _keep_descent(self, state: DescentState) -> None:
        vectors = {"weights": self.at.mean.weights.vector(), "anchor": state.anchor}
        self._keep(vectors, {"descent": state.notes()})

    def _keep(self, vectors: dict[str, Tensor | None], notes: dict[str, Any]) -> None:
        """Add to what is kept."""
        self._vectors |= {name: one for name, one in vectors.items() if one is not None}
        self._notes |= notes
        self.state.save(self._vectors, self._notes)

    def _advance(self, state: DescentState) -> Callable[[], None]:
        steps = Steps("descent")

        def advance() -> None:
            self.progress.advance(1)
            steps.expect(self.progress, self.settings.steps - state.done)

        return advance

    def _ended(
        self, before: CriticalEntry, step: EscapeStep | None, descent: DescentEntry | None
    ) -> EscapeEntry:
        after = self._look("after")
        held = self._held_out()
        told = change(*held) if held is not None else None
        found = ended(before, after, told, self.settings, step=step, descent=descent)
        entry = self._entry(before, found, step, descent, after)
        more = {"change": after.loss - before.loss, "held_out": told}
        count = 0 if held is None else len(held[0].loss)
        return entry.model_copy(update={**more, "held_out_examples": count})

    def _held_out(self) -> tuple[Losses, Losses] | None:
        """Held-out losses where the module stands, and where it stood at first."""
        if self.held_out is None:
            return None
        weights = self.at.mean.weights
        there = weights.vector()
        weights.put(self._home)
        before = self.held_out.losses()
        weights.put(there)
        return self.held_out.losses(), before

    def _count(self) -> int:
        """Training examples."""
        objective = self.at.objective
        if isinstance(objective, TaskObjective):
            return len(objective.kept)
        return len(objective.measure(self.at.mean.model).loss)

    def _entry(
        self,
        before: CriticalEntry,
        verdict: EscapeVerdict,
        step: EscapeStep | None = None,
        descent: DescentEntry | None = None,
        after: CriticalEntry | None = None,
    ) -> EscapeEntry:
        return EscapeEntry(
            verdict=verdict,
            examples=self._count(),
            whole=self.at.whole,
            parameters=self.at.mean.weights.size,
            lanczos_steps=self.settings.lanczos_steps,
            before=before,
            step=step,
            descent=descent,
            after=after,
        )


def _nothing(gradients: float) -> None:
    """Told of costs that nobody counts."""
